// Package links tries links against Dovecot: new mail by IDLE and by POP3, flags and moves
// both ways, and servers that are killed in the middle. It has only tests, which run with
// MARTLET_PEERS=1.
package links
