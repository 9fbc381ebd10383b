from a as B
run b
Copy c /d
EnTrYpOiNt ["e"]
