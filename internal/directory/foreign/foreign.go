// Package foreign reads the hashes of passwords that other mail servers have made, and holds
// passwords against them: those of Dovecot, of LDAP directories, of crypt(3), and of programs
// in Python such as mailcow's and Django's.
//
// A hash says itself how much work and memory it costs to hold a password against it. Parse
// refuses what would cost more than a login may, and says so; what it has taken costs at most
// about a second and the memory that it names. Nothing here makes a hash, and no error quotes
// one.
//
// RFC 9106 (argon2), RFC 7914 (scrypt), RFC 8018 (PBKDF2), RFC 5802 and 5803 (SCRAM), RFC 2307
// (schemes in braces); the rest has no RFC: Dovecot's documentation of password schemes, and
// the specification of SHA-crypt by U. Drepper.
package foreign

import (
	"crypto/subtle"
	"maps"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// Limits on what a hash may cost. All but memory are fixed: each is about a second on a
// small server.
const (
	maxText         = 1024      // bytes of a hash
	maxSalt         = 256       // bytes
	maxPassword     = 256       // bytes: crypt(3)'s work grows with the password
	maxBcryptCost   = 14        // 2^14 rounds
	maxSHARounds    = 1_000_000 // of SHA256-CRYPT, SHA512-CRYPT, sha1crypt
	maxIterations   = 2_000_000 // of PBKDF2
	maxScram        = 1_000_000 // of SCRAM
	maxArgonPasses  = 64
	maxArgonLanes   = 16
	maxArgonWork    = 1 << 30 // bytes times passes
	maxScryptWork   = 1 << 28 // bytes times p
	minDigestLength = 10      // bytes of a derived key: what is shorter is met by chance
)

// Hash is a password's hash that was made elsewhere.
type Hash struct {
	scheme  string
	text    string // in the form in which it is kept
	memory  int64
	matches func(password []byte) bool
	reads   int // bytes of a password that count; 0: all

	plain string
	mech  string
	keys  sasl.Keys
}

// Scheme names how it was made, such as "SHA512-CRYPT".
func (h *Hash) Scheme() string { return h.scheme }

// String is the form in which it is kept, and which Parse takes: the scheme in braces and
// the hash.
func (h *Hash) String() string { return h.text }

// Memory is what it takes, in bytes, to hold a password against it.
func (h *Hash) Memory() int64 { return h.memory }

// Plain is the password itself, if the "hash" is that.
func (h *Hash) Plain() (password string, ok bool) { return h.plain, h.plain != "" }

// Scram are the keys of a mechanism of SCRAM, if the hash consists of them.
func (h *Hash) Scram() (mechanism string, keys sasl.Keys, ok bool) {
	return h.mech, h.keys, h.mech != ""
}

// Matches tells whether the hash is of a password, as its owner has typed it. An empty one,
// one of more than 256 bytes and one with a zero byte match nothing: crypt(3) stops there,
// and HMAC takes one more at the end for the same key.
func (h *Hash) Matches(password string) bool {
	if password == "" || len(password) > maxPassword || strings.IndexByte(password, 0) >= 0 {
		return false
	}
	return h.matches([]byte(password))
}

// Whole tells whether all of a password counts. If not, one that matches may end in anything:
// it is not known to be the owner's.
func (h *Hash) Whole(password string) bool { return h.reads == 0 || len(password) <= h.reads }

// schemes are the names in braces, and who reads what follows them.
var schemes = map[string]func(body string, memory int64) (*Hash, error){
	"PLAIN": readPlain, "CLEAR": readPlain, "CLEARTEXT": readPlain,

	"CRYPT": readCrypt, "MD5": readMD5,
	"BLF-CRYPT": only("$2"), "BCRYPT": only("$2"), "MD5-CRYPT": only("$1$"),
	"SHA256-CRYPT": only("$5$"), "SHA512-CRYPT": only("$6$"), "YESCRYPT": only("$y$"), "SHA1-CRYPT": only("$sha1$"),
	"ARGON2": only("$argon2"), "ARGON2I": only("$argon2i$"), "ARGON2ID": only("$argon2id$"), "SCRYPT": only("$scrypt$", "scrypt$", "$7$"),

	"SHA": digest("SHA", false), "SHA1": digest("SHA", false), "SHA256": digest("SHA256", false), "SHA512": digest("SHA512", false),
	"SSHA": digest("SSHA", true), "SSHA256": digest("SSHA256", true), "SSHA512": digest("SSHA512", true), "SMD5": digest("SMD5", true),
	"LDAP-MD5": digest("LDAP-MD5", false), "PLAIN-MD5": digest("PLAIN-MD5", false), "PLAIN-MD4": digest("PLAIN-MD4", false),
	"CRAM-MD5": readCRAM, "HMAC-MD5": readCRAM,

	"PBKDF2": readDovecotPBKDF2, "PBKDF2-SHA1": readLDAPPBKDF2("SHA1"), "PBKDF2-SHA256": readLDAPPBKDF2("SHA256"), "PBKDF2-SHA512": readLDAPPBKDF2("SHA512"),

	"SCRAM-SHA-1": readScram(sasl.ScramSHA1), "SCRAM-SHA-256": readScram(sasl.ScramSHA256),
}

// without are schemes that are known, and why they are of no use here.
var without = map[string]string{
	"DES-CRYPT":   "it keeps eight letters of a password in 56 bits",
	"PLAIN-TRUNC": "it keeps a part of a password only",
	"DIGEST-MD5":  "it is of a name and a realm that are not known here",
	"OTP":         "it is of passwords that count once",
	"NT":          "it has no salt and is as good as the password itself",
}

// Schemes are the names in braces that Parse takes, in order.
func Schemes() []string { return slices.Sorted(maps.Keys(schemes)) }

// Parse reads a hash: {SCHEME}hash as Dovecot and LDAP write it, $id$... as crypt(3) does, or
// one of the forms of Django. memory bounds what it may take, in bytes. Faults: Unsupported
// for a scheme that is not known, TooLarge for a cost above a limit, which it names; Invalid.
func Parse(text string, memory int64) (*Hash, error) {
	text = strings.TrimLeft(strings.TrimRight(text, "\r\n"), " \t") // spaces at the end may be a password's
	if len(text) > maxText {
		return nil, fault.Newf(fault.TooLarge, "the hash is longer than %d bytes", maxText)
	}
	for _, c := range []byte(text) {
		if c < ' ' || c == 0x7f {
			return nil, fault.New(fault.Invalid, "the hash has control characters in it")
		}
	}
	name, body, braced := braces(text)
	if !braced {
		return readBare(strings.TrimRight(text, " "), memory)
	}
	read, known := schemes[name]
	switch {
	case !known && without[name] == "" && !strange(name):
		return nil, fault.Newf(fault.Unsupported, "the scheme %s of the hash is not known; there are %s", name, strings.Join(Schemes(), ", "))
	case !known:
		return nil, unknown(name)
	}
	h, err := read(body, memory)
	if err != nil && strings.HasSuffix(body, " ") {
		return read(strings.TrimRight(body, " "), memory)
	}
	return h, err
}

// braces takes {SCHEME} from the front, and what Dovecot lets stand behind its name: how the
// bytes are written, which is seen from their length.
func braces(text string) (name, body string, ok bool) {
	rest, ok := strings.CutPrefix(text, "{")
	if !ok {
		return "", text, false
	}
	name, body, ok = strings.Cut(rest, "}")
	if !ok {
		return "", text, false
	}
	name = strings.ToUpper(name)
	for _, written := range []string{".B64", ".BASE64", ".HEX"} {
		name = strings.TrimSuffix(name, written)
	}
	return name, body, true
}

func unknown(name string) error {
	if why, known := without[name]; known {
		return fault.Newf(fault.Unsupported, "hashes of the scheme %s are not taken: %s; let the account wait for its first login instead, or give it a new password", name, why)
	}
	return fault.New(fault.Unsupported, "the scheme of the hash is not known")
}

// strange tells whether a name is not fit to be told.
func strange(name string) bool {
	return len(name) > 40 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

// misformed is what is said of a hash that is not as its scheme wants it.
func misformed(scheme string) error {
	return fault.Newf(fault.Invalid, "the hash is not of the form that %s has", scheme)
}

// costly is what is said of a hash that would take too much.
func costly(scheme, what string, has, limit int64) error {
	return fault.Newf(fault.TooLarge, "the hash (%s) asks for %s %d, the limit is %d", scheme, what, has, limit)
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// readPlain takes a password that was not hashed at all.
func readPlain(body string, _ int64) (*Hash, error) {
	if body == "" {
		return nil, fault.New(fault.Invalid, "the password is empty")
	}
	return &Hash{scheme: "PLAIN", text: "{PLAIN}" + body, plain: body, matches: func(p []byte) bool { return equal(p, []byte(body)) }}, nil
}
