# not attached

# about the stage
# in two lines
FROM a AS b
  # indented
  RUN echo # no comment
#
	RUN c
