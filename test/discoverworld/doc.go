// Package discoverworld asks martlet discover about providers of a small internet
// (test/world/lab): hosts in namespaces of their own, a signed DNS with a root of its own,
// HTTPS by an authority that only these hosts trust, real Dovecot and Postfix. Each source of
// settings is there alone once, each lie too. At the end somebody moves from there to a
// Martlet, by two commands.
//
// It has only tests, which run as root with MARTLET_PEERS=1 where the programs of the lab are.
package discoverworld
