//syntax=example/other
x
