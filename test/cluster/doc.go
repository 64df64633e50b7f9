// Package cluster builds several machines out of one, breaks them one after the other, and
// looks what became of the mail: three nodes with PostgreSQL, Patroni and etcd, an object
// store, nodes of ours that serve the same accounts, and HAProxy in front of all of it, each
// a host of the small internet of test/world/lab with addresses of its own.
//
// Clients deliver, submit and read all the time. The book holds each message that was
// acknowledged; sessions of IMAP keep what they were told. After each fault both must agree
// with what every node shows.
//
// TestFaults does them all and writes docs/cluster-faults.md; it runs with
// MARTLET_CLUSTER=1, which is `make test-cluster`. TestShort kills a database and a node.
// Both are proved by controls: a database that does not wait for its replica must lose
// acknowledged mail, and a book that has a message too much, or one too few, must not agree.
package cluster
