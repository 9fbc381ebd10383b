ARG A
ARG B=1 C D="x y" E=
FROM $B
ARG 'F'=2 "G"
