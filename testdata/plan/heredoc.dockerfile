FROM debian
ARG WHO=world
RUN <<-END
	echo one
	echo two
END
RUN <<SCRIPT
#!/usr/bin/env python3
print("hi")
SCRIPT
RUN cat <<A >/a && cat <<B >/b
in a
A
in b
B
COPY --chmod=755 <<hello <<'raw' list.txt /etc/texts/
hello "$WHO" \$WHO
hello
raw $WHO
raw
