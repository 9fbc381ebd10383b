FROM a
COPY a b/ /c/
COPY ["a b", "c\"d", "/e f"]
COPY --from=0 --link --parents=false --exclude=*.md --exclude=**/x --chmod=u=rwX,go=rX . /x
COPY "a /b
ADD --checksum=sha256:00 --keep-git-dir=true --unpack=TRUE https://example.com/a.git#main:sub /z
