// Package outward tries the way out with real programs: what martlet export writes is read
// by Dovecot, neomutt and Python, goes to a real IMAP server and comes back, and survives
// kill -9. It has only tests, which run with MARTLET_PEERS=1.
package outward
