package foreign

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"

	"github.com/go-crypt/x/crypt"
	"github.com/go-crypt/x/yescrypt"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/martlet-mail/martlet/internal/fault"
)

// form is a way in which a hash can begin that has no scheme in braces.
type form struct {
	prefix string
	read   func(body string, memory int64) (*Hash, error)
}

// forms in the order in which they are tried.
var forms = []form{
	{"$1$", readMD5Crypt},
	{"$2a$", readBcrypt}, {"$2b$", readBcrypt}, {"$2y$", readBcrypt},
	{"$5$", readSHACrypt("SHA256-CRYPT", "$5$", 43, sha256.New)},
	{"$6$", readSHACrypt("SHA512-CRYPT", "$6$", 86, sha512.New)},
	{"$y$", readYescrypt},
	{"$7$", readScrypt7},
	{"$sha1$", readSHA1Crypt},
	{"$argon2i$", readArgon("ARGON2I", argon2.Key)},
	{"$argon2id$", readArgon("ARGON2ID", argon2.IDKey)},
	{"$scrypt$", readScrypt}, {"scrypt$", readDjangoScrypt},
	{"$pbkdf2$", readPassPBKDF2("SHA1", "$pbkdf2$")},
	{"$pbkdf2-sha256$", readPassPBKDF2("SHA256", "$pbkdf2-sha256$")},
	{"$pbkdf2-sha512$", readPassPBKDF2("SHA512", "$pbkdf2-sha512$")},
	{"pbkdf2_sha1$", readDjangoPBKDF2("SHA1", "pbkdf2_sha1$")},
	{"pbkdf2_sha256$", readDjangoPBKDF2("SHA256", "pbkdf2_sha256$")},
	{"pbkdf2_sha512$", readDjangoPBKDF2("SHA512", "pbkdf2_sha512$")},
	{"SCRAM-SHA-256$", readStoredScram}, {"SCRAM-SHA-1$", readStoredScram},
}

// readBare reads a hash that says by its beginning what it is.
func readBare(text string, memory int64) (*Hash, error) {
	if strings.HasPrefix(text, "argon2$argon2") || strings.HasPrefix(text, "bcrypt$$2") { // Django's
		_, text, _ = strings.Cut(text, "$")
		text = "$" + strings.TrimPrefix(text, "$")
	}
	for _, f := range forms {
		if strings.HasPrefix(text, f.prefix) {
			return f.read(text, memory)
		}
	}
	if len(text) == 13 && !strings.ContainsAny(text, "${}:*!") {
		return nil, unknown("DES-CRYPT")
	}
	return nil, fault.New(fault.Unsupported, "it cannot be told how the hash was made; put its scheme in braces in front, such as {SHA512-CRYPT}")
}

// readCrypt reads what crypt(3) makes, with or without a prefix of its own.
func readCrypt(body string, memory int64) (*Hash, error) {
	if !strings.HasPrefix(body, "$") {
		return nil, unknown("DES-CRYPT")
	}
	return readBare(body, memory)
}

// readMD5 reads what Dovecot calls MD5: MD5-CRYPT, or else a plain digest.
func readMD5(body string, memory int64) (*Hash, error) {
	if strings.HasPrefix(body, "$1$") {
		return readMD5Crypt(body, memory)
	}
	return digest("PLAIN-MD5", false)(body, memory)
}

// only reads a hash whose scheme is named and that must begin accordingly.
func only(prefixes ...string) func(string, int64) (*Hash, error) {
	return func(body string, memory int64) (*Hash, error) {
		for _, p := range prefixes {
			if strings.HasPrefix(body, p) {
				return readBare(body, memory)
			}
		}
		return nil, misformed("its scheme (it begins with " + strings.Join(prefixes, " or ") + ")")
	}
}

// setting splits $id$salt$hash; the salt may have fields of its own in front.
func setting(body, prefix string) (fields []string) {
	return strings.Split(strings.TrimPrefix(body, prefix), "$")
}

// isCrypt64 tells whether a text is in the alphabet of crypt(3).
func isCrypt64(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r == '.' || r == '/' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z')
	})
}

func readMD5Crypt(body string, _ int64) (*Hash, error) {
	f := setting(body, "$1$")
	if len(f) != 2 || len(f[0]) > 8 || len(f[1]) != 22 || !isCrypt64(f[1]) {
		return nil, misformed("MD5-CRYPT")
	}
	salt, want := []byte(f[0]), []byte(f[1])
	return &Hash{scheme: "MD5-CRYPT", text: "{MD5-CRYPT}" + body, matches: func(p []byte) bool { return equal(crypt.KeyMD5Crypt(p, salt), want) }}, nil
}

func readSHA1Crypt(body string, _ int64) (*Hash, error) {
	f := setting(body, "$sha1$")
	if len(f) != 3 || len(f[1]) > 64 || len(f[2]) != 28 || !isCrypt64(f[2]) {
		return nil, misformed("SHA1-CRYPT")
	}
	rounds, err := count(f[0])
	if err != nil || rounds == 0 {
		return nil, misformed("SHA1-CRYPT")
	}
	if rounds > maxSHARounds {
		return nil, costly("SHA1-CRYPT", "rounds", rounds, maxSHARounds)
	}
	salt, want := []byte(f[1]), []byte(f[2])
	return &Hash{scheme: "SHA1-CRYPT", text: "{SHA1-CRYPT}" + body, matches: func(p []byte) bool {
		return equal(crypt.KeySHA1Crypt(p, salt, uint32(rounds)), want)
	}}, nil
}

// readSHACrypt reads $5$ and $6$, with rounds= or without.
func readSHACrypt(scheme, prefix string, length int, sum func() hash.Hash) func(string, int64) (*Hash, error) {
	return func(body string, _ int64) (*Hash, error) {
		f, rounds := setting(body, prefix), int64(5000)
		if text, given := strings.CutPrefix(f[0], "rounds="); given && len(f) == 3 {
			var err error
			if rounds, err = count(text); err != nil {
				return nil, misformed(scheme)
			}
			f, rounds = f[1:], max(rounds, 1000)
		}
		if len(f) != 2 || len(f[0]) > 16 || len(f[1]) != length || !isCrypt64(f[1]) {
			return nil, misformed(scheme)
		}
		if rounds > maxSHARounds {
			return nil, costly(scheme, "rounds", rounds, maxSHARounds)
		}
		salt, want := []byte(f[0]), []byte(f[1])
		return &Hash{scheme: scheme, text: "{" + scheme + "}" + body, matches: func(p []byte) bool {
			return equal(crypt.KeySHACrypt(sum, p, salt, int(rounds)), want)
		}}, nil
	}
}

// bcryptReads is how much of a password bcrypt looks at, in bytes.
const bcryptReads = 72

func readBcrypt(body string, _ int64) (*Hash, error) {
	if len(body) != 60 || body[6] != '$' || !isCrypt64(body[7:]) {
		return nil, misformed("BLF-CRYPT")
	}
	cost, err := bcrypt.Cost([]byte(body))
	if err != nil {
		return nil, misformed("BLF-CRYPT")
	}
	if cost > maxBcryptCost {
		return nil, costly("BLF-CRYPT", "a cost of", int64(cost), maxBcryptCost)
	}
	return &Hash{scheme: "BLF-CRYPT", text: "{BLF-CRYPT}" + body, reads: bcryptReads, matches: func(p []byte) bool {
		return bcrypt.CompareHashAndPassword([]byte(body), p) == nil
	}}, nil
}

// readYescrypt reads $y$j, of which the two letters behind are the logarithm of N and the
// size of a block.
func readYescrypt(body string, memory int64) (*Hash, error) {
	f := setting(body, "$y$")
	if len(f) != 3 || len(f[0]) != 3 || len(f[2]) != 43 || len(f[1]) > maxSalt || !isCrypt64(f[1]) || !isCrypt64(f[2]) || len(yescrypt.Decode64([]byte(f[1]))) == 0 {
		return nil, misformed("YESCRYPT")
	}
	_, logN, r, err := yescrypt.DecodeSetting([]byte(f[0]))
	if err != nil || logN < 10 || logN > 18 || r < 1 || r > 32 {
		return nil, fault.New(fault.Unsupported, "the hash (YESCRYPT) has parameters that are not known here")
	}
	need := int64(128*r) << logN
	if need > memory {
		return nil, costly("YESCRYPT", "bytes of memory", need, memory)
	}
	return &Hash{scheme: "YESCRYPT", text: "{YESCRYPT}" + body, memory: need, matches: func(p []byte) bool {
		got, err := yescrypt.Hash(p, []byte(body))
		return err == nil && equal(got, []byte(body))
	}}, nil
}

// readArgon reads the PHC string of the reference program (RFC 9106).
func readArgon(scheme string, key func(password, salt []byte, passes, memory uint32, lanes uint8, n uint32) []byte) func(string, int64) (*Hash, error) {
	return func(body string, memory int64) (*Hash, error) {
		f := strings.Split(body, "$") // "", name, version, costs, salt, key
		if len(f) != 6 || f[2] != "v=19" {
			return nil, misformed(scheme + " (version 19)")
		}
		m, t, p, ok := argonCosts(f[3])
		salt, err1 := base64.RawStdEncoding.DecodeString(f[4])
		want, err2 := base64.RawStdEncoding.DecodeString(f[5])
		if !ok || err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > maxSalt || len(want) < minDigestLength {
			return nil, misformed(scheme)
		}
		need := m << 10
		switch {
		case need > memory:
			return nil, costly(scheme, "bytes of memory", need, memory)
		case t > maxArgonPasses:
			return nil, costly(scheme, "passes", t, maxArgonPasses)
		case p > maxArgonLanes:
			return nil, costly(scheme, "lanes", p, maxArgonLanes)
		case need*t > maxArgonWork:
			return nil, costly(scheme, "bytes of memory times passes", need*t, maxArgonWork)
		}
		return &Hash{scheme: scheme, text: "{" + scheme + "}" + body, memory: need, matches: func(pw []byte) bool {
			return equal(key(pw, salt, uint32(t), uint32(m), uint8(p), uint32(len(want))), want)
		}}, nil
	}
}

// argonCosts reads m=65536,t=3,p=1.
func argonCosts(text string) (m, t, p int64, ok bool) {
	f := strings.Split(text, ",")
	if len(f) != 3 {
		return 0, 0, 0, false
	}
	for i, at := range []*int64{&m, &t, &p} {
		value, named := strings.CutPrefix(f[i], string("mtp"[i])+"=")
		n, err := count(value)
		if !named || err != nil || n == 0 {
			return 0, 0, 0, false
		}
		*at = n
	}
	return m, t, p, true
}

// count reads a number of at most ten digits.
func count(text string) (int64, error) {
	if len(text) == 0 || len(text) > 10 || bytes.ContainsFunc([]byte(text), func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(text, 10, 64)
}
