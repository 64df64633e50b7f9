// Package movein tests that the people of a whole domain move from another server, a real
// Dovecot, to the real binary: with the passwords they have, by hashes, by their first login
// and by a master account, and with all their mail.
package movein
