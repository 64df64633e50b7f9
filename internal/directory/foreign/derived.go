package foreign

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/go-crypt/x/yescrypt"
	"golang.org/x/crypto/scrypt"

	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// Keys that are derived from a password by iterating (PBKDF2, scrypt, SCRAM).

var prf = map[string]func() hash.Hash{"SHA1": sha1.New, "SHA256": sha256.New, "SHA512": sha512.New}

// derived is a hash of PBKDF2 (RFC 8018, 5.2).
func derived(name, text, iterations string, salt, want []byte) (*Hash, error) {
	scheme := "PBKDF2-" + name
	n, err := count(iterations)
	if err != nil || n == 0 || len(salt) > maxSalt || len(want) < minDigestLength || len(want) > 2*sha512.Size {
		return nil, misformed(scheme)
	}
	sum := prf[name]
	blocks := int64((len(want) + sum().Size() - 1) / sum().Size())
	if n*blocks > maxIterations {
		return nil, costly(scheme, "iterations", n*blocks, maxIterations)
	}
	return &Hash{scheme: scheme, text: text, matches: func(p []byte) bool {
		got, err := pbkdf2.Key(sum, string(p), salt, int(n), len(want))
		return err == nil && equal(got, want)
	}}, nil
}

// readDovecotPBKDF2 reads $1$salt$iterations$hex: SHA-1, and the salt is the text itself.
func readDovecotPBKDF2(body string, memory int64) (*Hash, error) {
	f := strings.Split(body, "$")
	if len(f) == 5 && f[0] == "" && f[1] == "1" {
		want, err := hex.DecodeString(f[4])
		if err != nil {
			return nil, misformed("PBKDF2")
		}
		return derived("SHA1", "{PBKDF2}"+body, f[3], []byte(f[2]), want)
	}
	return readLDAPPBKDF2("SHA1")(body, memory)
}

// readLDAPPBKDF2 reads iterations$salt$key of OpenLDAP's module, in passlib's base64.
func readLDAPPBKDF2(name string) func(string, int64) (*Hash, error) {
	return func(body string, _ int64) (*Hash, error) {
		f := strings.Split(body, "$")
		if len(f) != 3 {
			return nil, misformed("PBKDF2")
		}
		salt, err1 := passlib64(f[1])
		want, err2 := passlib64(f[2])
		if err1 != nil || err2 != nil {
			return nil, misformed("PBKDF2")
		}
		return derived(name, "{PBKDF2-"+name+"}"+body, f[0], salt, want)
	}
}

// readPassPBKDF2 reads passlib's $pbkdf2-sha256$iterations$salt$key.
func readPassPBKDF2(name, prefix string) func(string, int64) (*Hash, error) {
	return func(body string, memory int64) (*Hash, error) {
		h, err := readLDAPPBKDF2(name)(strings.TrimPrefix(body, prefix), memory)
		if err == nil {
			h.text = body
		}
		return h, err
	}
}

// readDjangoPBKDF2 reads pbkdf2_sha256$iterations$salt$key: the salt is the text itself.
func readDjangoPBKDF2(name, prefix string) func(string, int64) (*Hash, error) {
	return func(body string, _ int64) (*Hash, error) {
		f := setting(body, prefix)
		if len(f) != 3 {
			return nil, misformed("PBKDF2")
		}
		want, err := base64.StdEncoding.DecodeString(f[2])
		if err != nil {
			return nil, misformed("PBKDF2")
		}
		return derived(name, body, f[0], []byte(f[1]), want)
	}
}

// passlib64 is base64 with . instead of +, and without padding.
func passlib64(text string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.ReplaceAll(text, ".", "+"), "="))
}

// scrypted is a hash of scrypt (RFC 7914).
func scrypted(text string, logN, r, p int64, salt, want []byte, memory int64) (*Hash, error) {
	if logN < 1 || r < 1 || p < 1 || r > 1<<20 || p > 1<<20 || len(salt) > maxSalt || len(want) < minDigestLength || len(want) > 2*sha512.Size {
		return nil, misformed("SCRYPT")
	}
	if logN > 30 {
		return nil, costly("SCRYPT", "a logarithm of rounds of", logN, 30)
	}
	need := 128 * r << logN
	switch {
	case need > memory:
		return nil, costly("SCRYPT", "bytes of memory", need, memory)
	case need > maxScryptWork/p: // the product may be more than fits
		return nil, costly("SCRYPT", "bytes of memory", need, maxScryptWork/p)
	}
	return &Hash{scheme: "SCRYPT", text: text, memory: need, matches: func(pw []byte) bool {
		got, err := scrypt.Key(pw, salt, 1<<logN, int(r), int(p), len(want))
		return err == nil && equal(got, want)
	}}, nil
}

// readScrypt reads passlib's $scrypt$ln=16,r=8,p=1$salt$key.
func readScrypt(body string, memory int64) (*Hash, error) {
	f := setting(body, "$scrypt$")
	if len(f) != 3 {
		return nil, misformed("SCRYPT")
	}
	var costs [3]int64
	c := strings.Split(f[0], ",")
	for i, name := range []string{"ln=", "r=", "p="} {
		if len(c) != 3 || !strings.HasPrefix(c[i], name) {
			return nil, misformed("SCRYPT")
		}
		n, err := count(c[i][len(name):])
		if err != nil {
			return nil, misformed("SCRYPT")
		}
		costs[i] = n
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(f[1])
	want, err2 := base64.RawStdEncoding.DecodeString(f[2])
	if err1 != nil || err2 != nil {
		return nil, misformed("SCRYPT")
	}
	return scrypted(body, costs[0], costs[1], costs[2], salt, want, memory)
}

// readDjangoScrypt reads scrypt$N$salt$r$p$key: the salt is the text itself.
func readDjangoScrypt(body string, memory int64) (*Hash, error) {
	f := setting(body, "scrypt$")
	if len(f) != 5 {
		return nil, misformed("SCRYPT")
	}
	n, err1 := count(f[0])
	r, err2 := count(f[2])
	p, err3 := count(f[3])
	want, err4 := base64.StdEncoding.DecodeString(f[4])
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || n < 2 || n&(n-1) != 0 {
		return nil, misformed("SCRYPT")
	}
	logN := int64(0)
	for ; 1<<logN < n; logN++ {
	}
	return scrypted(body, logN, r, p, []byte(f[1]), want, memory)
}

// readScrypt7 reads $7$ of crypt(3): a letter for the logarithm of N, five each for r and p, and
// the salt, which is the text itself.
func readScrypt7(body string, memory int64) (*Hash, error) {
	f := setting(body, "$7$")
	if len(f) != 2 || len(f[0]) < 11 || len(f[1]) != 43 || !isCrypt64(f[0]) || !isCrypt64(f[1]) {
		return nil, misformed("SCRYPT")
	}
	number := func(s string) (n int64) { // the lowest six bits first
		for i := len(s) - 1; i >= 0; i-- {
			n = n<<6 | int64(strings.IndexByte(crypt64, s[i]))
		}
		return n
	}
	want := yescrypt.Decode64([]byte(f[1]))
	if len(want) != 32 {
		return nil, misformed("SCRYPT")
	}
	return scrypted(body, number(f[0][:1]), number(f[0][1:6]), number(f[0][6:11]), []byte(f[0][11:]), want, memory)
}

const crypt64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// readScram reads Dovecot's iterations,salt,StoredKey,ServerKey.
func readScram(mechanism string) func(string, int64) (*Hash, error) {
	return func(body string, _ int64) (*Hash, error) {
		f := strings.Split(body, ",")
		if len(f) != 4 {
			return nil, misformed(mechanism)
		}
		return scramKeys(mechanism, "{"+mechanism+"}"+body, f[0], f[1], f[2], f[3])
	}
}

// readStoredScram reads mechanism$iterations:salt$StoredKey:ServerKey (RFC 5803).
func readStoredScram(body string, _ int64) (*Hash, error) {
	f := strings.Split(body, "$")
	if len(f) != 3 {
		return nil, misformed("SCRAM")
	}
	iterations, salt, ok1 := strings.Cut(f[1], ":")
	stored, server, ok2 := strings.Cut(f[2], ":")
	if !ok1 || !ok2 {
		return nil, misformed(f[0])
	}
	return scramKeys(f[0], "{"+f[0]+"}"+strings.Join([]string{iterations, salt, stored, server}, ","), iterations, salt, stored, server)
}

// scramKeys are kept as they are: SCRAM goes on with them, and a password is held against
// them by deriving them anew.
func scramKeys(mechanism, text, iterations, salt, stored, server string) (*Hash, error) {
	n, err := count(iterations)
	size := sha256.Size
	if mechanism == sasl.ScramSHA1 {
		size = sha1.Size
	}
	k := sasl.Keys{Iterations: int(n)}
	var bad bool
	for _, part := range []struct {
		at   *[]byte
		text string
	}{{&k.Salt, salt}, {&k.StoredKey, stored}, {&k.ServerKey, server}} {
		raw, err := base64.StdEncoding.DecodeString(part.text)
		bad = bad || err != nil || len(raw) == 0 || len(raw) > maxSalt
		*part.at = raw
	}
	if err != nil || n == 0 || bad || len(k.StoredKey) != size || len(k.ServerKey) != size {
		return nil, misformed(mechanism)
	}
	if n > maxScram {
		return nil, costly(mechanism, "iterations", n, maxScram)
	}
	return &Hash{scheme: mechanism, text: text, mech: mechanism, keys: k, matches: func(p []byte) bool {
		prepared, err := sasl.PreparePassword(string(p))
		if err != nil {
			return false
		}
		got, err := sasl.DeriveKeys(mechanism, prepared, k.Salt, k.Iterations)
		return err == nil && equal(got.StoredKey, k.StoredKey)
	}}, nil
}
