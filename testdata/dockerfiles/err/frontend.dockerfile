# syntax=example.com/hlb:latest
fs default() {}
