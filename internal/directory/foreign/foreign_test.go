package foreign

import (
	"bufio"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

const memory = 128 << 20

// vectors are hashes of real programs, with how they were made.
func vectors(t testing.TB) (all [][2]string) {
	t.Helper()
	f, err := os.Open("testdata/hashes.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if how, hash, ok := strings.Cut(s.Text(), "\t"); ok && !strings.HasPrefix(how, "#") {
			all = append(all, [2]string{how, hash})
		}
	}
	if len(all) < 60 {
		t.Fatalf("only %d vectors", len(all))
	}
	return all
}

const ofVectors = "Blaue Möwe 7!"

// holds checks what a hash must do: it takes its password and no other, and so does what is
// kept of it.
func holds(t *testing.T, how, text string) *Hash {
	t.Helper()
	h, err := Parse(text, memory)
	if err != nil {
		t.Errorf("%s: %q: %v", how, text, err)
		return nil
	}
	if !h.Matches(ofVectors) {
		t.Errorf("%s (%s): %q is not of its password", how, h.Scheme(), text)
	}
	for _, other := range []string{"", "Blaue Möwe 7", "Blaue Möwe 7!x", strings.Repeat("x", 300), "Blaue Möwe 7!\x00"} {
		if h.Matches(other) {
			t.Errorf("%s (%s): %q takes %q", how, h.Scheme(), text, other)
		}
	}
	again, err := Parse(h.String(), memory)
	if err != nil || again.String() != h.String() || again.Scheme() != h.Scheme() || again.Memory() != h.Memory() {
		t.Errorf("%s: kept as %q, read as %+v, %v", how, h, again, err)
	}
	return h
}

func TestHashesOfRealPrograms(t *testing.T) {
	schemes := map[string]bool{}
	for _, v := range vectors(t) {
		if h := holds(t, v[0], v[1]); h != nil {
			schemes[h.Scheme()] = true
		}
	}
	for _, want := range []string{
		"PLAIN", "MD5-CRYPT", "SHA256-CRYPT", "SHA512-CRYPT", "SHA1-CRYPT", "BLF-CRYPT", "YESCRYPT", "SCRYPT", "ARGON2I", "ARGON2ID",
		"SHA", "SHA256", "SHA512", "SSHA", "SSHA256", "SSHA512", "SMD5", "LDAP-MD5", "PLAIN-MD5", "PLAIN-MD4", "CRAM-MD5",
		"PBKDF2-SHA1", "PBKDF2-SHA256", "PBKDF2-SHA512", "SCRAM-SHA-1", "SCRAM-SHA-256",
	} {
		if !schemes[want] {
			t.Errorf("no vector is of %s", want)
		}
	}
}

// What Dovecot of this machine makes now, of every scheme that it knows.
func TestHashesOfDovecotNow(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 asks the doveadm of this machine")
	}
	list, err := exec.Command("doveadm", "pw", "-l").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Fields(string(list))
	if len(known) < 20 {
		t.Fatalf("doveadm knows only %q", known)
	}
	for _, scheme := range known {
		out, err := exec.Command("doveadm", "pw", "-s", scheme, "-p", ofVectors, "-u", "anna@old.test").Output()
		if err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		text := strings.TrimRight(string(out), "\n")
		if without[scheme] == "" {
			holds(t, scheme, text)
		} else if _, err := Parse(text, memory); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), scheme) {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

// passlib prints a hash of each of its schemes that needs no other module.
const passlib = `
import passlib.hash
for name in "pbkdf2_sha1 pbkdf2_sha256 pbkdf2_sha512 ldap_pbkdf2_sha256 django_pbkdf2_sha256 sha512_crypt sha256_crypt sha1_crypt md5_crypt ldap_salted_sha1 ldap_salted_sha256 ldap_salted_sha512 ldap_salted_md5 ldap_sha1".split():
    scheme = getattr(passlib.hash, name)
    if "rounds" in scheme.setting_kwds:
        scheme = scheme.using(rounds=2000)
    print(scheme.hash("` + ofVectors + `"))
`

// What other programs of this machine make now.
func TestHashesOfOthersNow(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 asks openssl, mkpasswd, htpasswd and passlib of this machine")
	}
	for _, c := range [][]string{
		{"openssl", "passwd", "-1", ofVectors}, {"openssl", "passwd", "-5", ofVectors}, {"openssl", "passwd", "-6", ofVectors},
		{"mkpasswd", "-m", "yescrypt", ofVectors}, {"mkpasswd", "-m", "scrypt", "-R", "6", ofVectors}, {"mkpasswd", "-m", "bcrypt", ofVectors}, {"mkpasswd", "-m", "bcrypt-a", ofVectors},
		{"mkpasswd", "-m", "sha512crypt", "-R", "3000", ofVectors}, {"mkpasswd", "-m", "sha256crypt", ofVectors}, {"mkpasswd", "-m", "md5crypt", ofVectors},
		{"htpasswd", "-nbB", "u", ofVectors}, {"htpasswd", "-nbs", "u", ofVectors}, {"htpasswd", "-nb2", "u", ofVectors}, {"htpasswd", "-nb5", "u", ofVectors},
		{"/usr/bin/python3", "-c", passlib},
	} {
		out, err := exec.Command(c[0], c[1:]...).Output()
		if err != nil {
			t.Errorf("%q (Debian: whois, apache2-utils, python3-passlib): %v", c[:2], err)
			continue
		}
		n := 0
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimPrefix(strings.TrimSpace(line), "u:"); line != "" {
				n++
				holds(t, strings.Join(c[:2], " "), line)
			}
		}
		if n == 0 {
			t.Errorf("%q says nothing", c[:2])
		}
	}
}

// A hash that would eat the machine is refused by the name of what is too much. The limit
// itself is taken.
func TestCostsHaveLimits(t *testing.T) {
	b22, b43, b86 := strings.Repeat("a", 22), strings.Repeat("a", 42)+".", strings.Repeat("a", 86)
	key := strings.Repeat("A", 43)
	for _, c := range []struct{ text, limit string }{
		{"$6$rounds=1000001$salt$" + b86, "rounds 1000001, the limit is 1000000"},
		{"$5$rounds=4294967296$salt$" + b43, "rounds"},
		{"$sha1$9999999999$salt$" + strings.Repeat("a", 28), "rounds"},
		{"$2y$15$" + b22 + strings.Repeat("a", 31), "cost of 15, the limit is 14"},
		{"$argon2id$v=19$m=131073,t=1,p=1$MTIzNDU2Nzg$" + key, "bytes of memory 134218752, the limit is 134217728"},
		{"$argon2id$v=19$m=4294967295,t=1,p=1$MTIzNDU2Nzg$" + key, "memory"},
		{"$argon2id$v=19$m=64,t=65,p=1$MTIzNDU2Nzg$" + key, "passes"},
		{"$argon2i$v=19$m=131072,t=60,p=1$MTIzNDU2Nzg$" + key, "memory times passes"},
		{"$argon2i$v=19$m=64,t=1,p=17$MTIzNDU2Nzg$" + key, "lanes"},
		{"$scrypt$ln=20,r=8,p=1$YWJj$" + key, "memory"},
		{"$scrypt$ln=31,r=8,p=1$YWJj$" + key, "rounds"},
		{"$scrypt$ln=10,r=8,p=1000$YWJj$" + key, "memory 1048576, the limit is 268435"},
		{"scrypt$1073741824$salt$8$1$" + key + "=", "memory"},
		{"$7$zU..../....salt$" + b43, "rounds of 63"},
		{"$y$jFT$salt$" + b43, "memory"},
		{"{PBKDF2}$1$salt$2000001$" + strings.Repeat("ab", 20), "iterations"},
		{"{PBKDF2}$1$salt$200000$" + strings.Repeat("ab", 120), "iterations 1200000"},
		{"pbkdf2_sha256$99999999$salt$" + key + "=", "iterations"},
		{"{SCRAM-SHA-1}1000001,c2FsdA==,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "iterations"},
		{"{PLAIN}" + strings.Repeat("x", 2000), "1024 bytes"},
	} {
		_, err := Parse(c.text, memory)
		if c.limit == "iterations 1200000" { // under the limit, with so many blocks
			if err != nil {
				t.Errorf("%s: %v", c.text, err)
			}
			continue
		}
		if !fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), c.limit) || strings.Contains(err.Error(), "salt$") {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	for _, text := range []string{
		"$6$rounds=1000000$salt$" + b86, "$2y$14$" + b22 + strings.Repeat("a", 31), "$argon2id$v=19$m=131072,t=8,p=16$MTIzNDU2Nzg$" + key,
		"pbkdf2_sha256$2000000$salt$" + key + "=",
	} {
		if _, err := Parse(text, memory); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestWhatIsNoHash(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "cannot be told",
		"secret":                             "cannot be told",
		"{DES-CRYPT}8CRXWF0oaD2":             "DES-CRYPT are not taken",
		"{CRYPT}8CRXWF0oaD2yc":               "DES-CRYPT are not taken",
		"8CRXWF0oaD2yc":                      "DES-CRYPT are not taken",
		"{NT}00":                             "NT are not taken",
		"{ROT13}frperg":                      "ROT13 of the hash is not known; there are ARGON2, ",
		"{no\u202ename}x":                    "is not known",
		"{}x":                                "not known",
		"{SSHA":                              "cannot be told",
		"{SSHA}":                             "not of the form that SSHA has",
		"{SHA}AAAA":                          "not of the form",
		"{SSHA}b+EBB60C2GpM+87U5kr1zSBlavQ=": "not of the form", // no salt
		"{SHA512-CRYPT}$5$abc$def":           "begins with $6$",
		"{CRYPT}*":                           "DES-CRYPT",
		"$6$salt":                            "form",
		"$2x$05$" + strings.Repeat("a", 53):  "cannot be told",
		"$2y$05$" + strings.Repeat("-", 53):  "form",
		"{PLAIN}":                            "empty",
		"{SSHA}a\nb":                         "control",
		"$argon2d$v=19$m=64,t=1,p=1$MTIzNDU2Nzg$AAAA":                    "cannot be told",
		"$argon2id$v=16$m=64,t=1,p=1$MTIzNDU2Nzg$AAAAAAAAAAAAAAAAAAAAAA": "version 19",
		"$argon2id$v=19$m=64,t=0,p=1$MTIzNDU2Nzg$AAAAAAAAAAAAAAAAAAAAAA": "form",
		"{SCRAM-SHA-256}4096,c2FsdA==,AAAA,AAAA":                         "form",
	} {
		h, err := Parse(text, memory)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; wanted %q", text, h, err, want)
		}
	}
}

// Spaces at the end are a password's, and not a hash's.
func TestSpacesAtTheEnd(t *testing.T) {
	for text, password := range map[string]string{"{PLAIN}two words ": "two words ", " {SHA}b+EBB60C2GpM+87U5kr1zSBlavQ= \r\n": ofVectors, "$1$8pWpKndf$YGlY/xKJQ2.x4dK6lmuhJ1 \n": ofVectors} {
		h, err := Parse(text, memory)
		if err != nil || !h.Matches(password) {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if again, err := Parse(h.String(), memory); err != nil || !again.Matches(password) {
			t.Errorf("%q, kept as %q: %v", text, h, err)
		}
	}
}

// A stored hash is read without a limit of memory: nothing wraps around.
func TestNothingWrapsAround(t *testing.T) {
	key := strings.Repeat("A", 43)
	for _, text := range []string{
		"$scrypt$ln=30,r=1048576,p=1048576$YWJj$" + key, "scrypt$1073741824$salt$1048576$1048576$" + key + "=", "$7$Szzzzzzzzzzsalt$" + strings.Repeat("a", 42) + ".",
		"$argon2id$v=19$m=9999999999,t=64,p=1$MTIzNDU2Nzg$" + key, "$argon2id$v=19$m=4294967296,t=1,p=1$MTIzNDU2Nzg$" + key,
	} {
		if h, err := Parse(text, math.MaxInt64); err == nil {
			t.Errorf("%s is taken, at %d bytes", text, h.Memory())
		}
	}
}

// SCRAM keys are the mechanism's own.
func TestScramKeysAreKept(t *testing.T) {
	n := 0
	for _, v := range vectors(t) {
		h, err := Parse(v[1], memory)
		if err != nil {
			t.Fatal(err)
		}
		if mech, keys, ok := h.Scram(); ok {
			n++
			if mech != h.Scheme() || keys.Iterations != 4096 || len(keys.Salt) == 0 {
				t.Errorf("%s: %s %+v", v[0], mech, keys)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d vectors have SCRAM keys", n)
	}
	if !slices.IsSorted(Schemes()) {
		t.Error(Schemes())
	}
}

// FuzzParse: a hash is refused without being quoted, or is kept in a form that is read as the
// same, within its limits. One that costs little is held against a password, too.
func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v[1])
	}
	for _, text := range []string{"$6$rounds=99999999999999999999$s$x", "{SSHA}AAAA", "$y$jFT$$", "$7$zzzzzzzzzzz$", "$argon2id$v=19$m=1,t=1,p=9$MTIzNDU2Nzg$AAAAAAAAAAAAAAAAAAAAAA"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const allowed = 1 << 20
		h, err := Parse(text, allowed)
		if err != nil {
			if fault.Of(err) == fault.Internal || len(err.Error()) > 700 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if h.Memory() > allowed || len(h.String()) > len(text)+30 {
			t.Fatalf("%q: %d bytes of memory, kept as %q", text, h.Memory(), h)
		}
		again, err := Parse(h.String(), allowed)
		if err != nil || again.String() != h.String() || again.Scheme() != h.Scheme() {
			t.Fatalf("%q, kept as %q: %v, %v", text, h, again, err)
		}
		switch h.Scheme() {
		case "SHA", "SSHA", "SHA256", "SSHA256", "SHA512", "SSHA512", "SMD5", "LDAP-MD5", "PLAIN-MD5", "PLAIN-MD4", "CRAM-MD5", "MD5-CRYPT":
			if h.Matches("no such password") {
				t.Fatalf("%q takes any password", text)
			}
		}
	})
}
