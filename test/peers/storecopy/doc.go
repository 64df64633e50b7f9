// Package storecopy proves from outside that a store goes from one machine to a database and
// back without a mail program noticing: mbsync brings nothing anew, IMAP with QRESYNC tells of
// nothing, POP3 knows its messages, and every byte of every answer is what it was.
//
// The tests run with MARTLET_PEERS=1, against the real binary, a real PostgreSQL and mbsync.
package storecopy
