FROM a
COPY
COPY a
ADD ["a"]
COPY [1, "a"]
COPY a <<E
x
E
