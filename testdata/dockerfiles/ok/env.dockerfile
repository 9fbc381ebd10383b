FROM a
ENV a=1 b="x y" c='$q' d=x\ y e= f=a=b
ENV LEG  a  b   c
ENV LEG2 "quoted" $x
