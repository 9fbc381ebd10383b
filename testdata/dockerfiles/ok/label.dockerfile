FROM a
LABEL "com.example.key with space"="v" plain=w "a=b"=c
LABEL multi.line="one \
  two"
LABEL old value
