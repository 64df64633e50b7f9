// Package importimap tries the IMAP client and the import from IMAP against real servers:
// Dovecot, Cyrus, Courier and Martlet. It has only tests, which run with MARTLET_PEERS=1.
package importimap
