FROM	a	AS	b
RUN		b	 c
	ENV	a=1	b=2
