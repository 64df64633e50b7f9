package directory

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"
	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

var (
	home  = netip.MustParseAddr("192.0.2.1")
	away  = netip.MustParseAddr("198.51.100.7")
	local netip.Addr // not counted by address
)

func (f *fixture) try(login, password string, from netip.Addr) error {
	_, err := f.Authenticate(bg, login, password, from)
	return err
}

func TestAuthenticate(t *testing.T) {
	f := setUp(t)
	alice := f.add(t, "Alice@example.org", "p\u00e4ss word")
	f.add(t, "locked@example.org", "")
	f.mustDo(t, f.AddAlias(bg, at("al@example.org"), alice.Address))
	got, err := f.Authenticate(bg, "aLICE@EXAMPLE.org", "pa\u0308ss\u00a0word", home) // the same, typed otherwise
	if err != nil || got.ID != alice.ID || got.Address != alice.Address {
		t.Fatalf("%+v, %v", got, err)
	}
	var say string
	for _, c := range []struct{ login, password string }{
		{"alice@example.org", "pass word"}, {"alice@example.org", ""}, {"alice@example.org", "p\u00e4ss word\x00"},
		{"alice@example.org", strings.Repeat("x", 5000)}, {"alice", "p\u00e4ss word"}, {"", ""},
		{"al@example.org", "p\u00e4ss word"}, {"alice+x@example.org", "p\u00e4ss word"}, {"locked@example.org", ""},
		{"locked@example.org", "x"}, {"nobody@example.org", "x"}, {"alice@elsewhere.test", "x"}, {strings.Repeat("y", 5000), "x"},
	} {
		f.pass(time.Hour)
		ran := f.hashes.ran.Load()
		err := f.try(c.login, c.password, home)
		wantKind(t, c.login, err, fault.Unauthenticated)
		if say == "" {
			say = err.Error()
		}
		if err.Error() != say {
			t.Errorf("%.30s: %q, another answer than %q", c.login, err, say)
		}
		if n := f.hashes.ran.Load() - ran; n != 1 {
			t.Errorf("%.30s cost %d hashes, want 1 as for everybody", c.login, n)
		}
	}
	for i, d := range f.slept {
		if d != f.slept[0] {
			t.Errorf("answer %d came after %v, not %v", i, d, f.slept[0])
		}
	}
}

func TestSetPassword(t *testing.T) {
	f := setUp(t)
	alice := f.add(t, "alice@example.org", "old")
	f.mustDo(t, f.try("alice@example.org", "old", home), f.SetPassword(bg, at("ALICE@example.org"), "new"))
	wantKind(t, "old password", f.try("alice@example.org", "old", home), fault.Unauthenticated)
	f.mustDo(t, f.try("alice@example.org", "new", home), f.SetPassword(bg, alice.Address, ""))
	wantKind(t, "taken away", f.try("alice@example.org", "new", home), fault.Unauthenticated)
	wantKind(t, "unknown", f.SetPassword(bg, at("bob@example.org"), "x"), fault.NotFound)
	wantKind(t, "control", f.SetPassword(bg, alice.Address, "a\nb"), fault.Invalid)
	f.mustDo(t, f.SetPassword(bg, alice.Address, "newer"), f.RemoveAccount(bg, alice.Address))
	wantKind(t, "removed", f.try("alice@example.org", "newer", home), fault.Unauthenticated)
	f.add(t, "alice@example.org", "other")
	wantKind(t, "of the one before", f.try("alice@example.org", "newer", home), fault.Unauthenticated)
}

// A client that logs in for every request costs one hash.
func TestRememberedPassword(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "secret")
	cost := func(password string) int64 {
		before := f.hashes.ran.Load()
		f.Authenticate(bg, "Alice@example.org", password, home)
		return f.hashes.ran.Load() - before
	}
	steps := []struct {
		about, password string
		before          func()
		want            int64
	}{
		{"first", "secret", nil, 1},
		{"again", "secret", nil, 0},
		{"wrong", "Secret", nil, 1},
		{"after a wrong one", "secret", nil, 0},
		{"after the time", "secret", func() { f.pass(11 * time.Minute) }, 1},
		{"again", "secret", nil, 0},
		{"after a change of password to the same", "secret", func() { f.mustDo(t, f.SetPassword(bg, at("alice@example.org"), "secret")) }, 1},
	}
	for _, s := range steps {
		if s.before != nil {
			s.before()
		}
		if got := cost(s.password); got != s.want {
			t.Errorf("%s: %d hashes, want %d", s.about, got, s.want)
		}
	}
	f.known.add("bob@example.org", 7, "x", 1)
	knows := f.known.knows
	if knows("bob@example.org", 7, "x", 2) || knows("bob@example.org", 8, "x", 1) || knows("carol@example.org", 7, "x", 1) || !knows("bob@example.org", 7, "x", 1) {
		t.Error("what is remembered is not bound to login, account and version")
	}
	f.opt.RememberFor = -1
	f.Close()
	f.open(t)
	if first, second := cost("secret"), cost("secret"); first != 1 || second != 1 {
		t.Error("remembered although it was not to be")
	}
}

// An address that is given to somebody else does not open with the password of the one
// who had it: neither if a login was being checked when the account went, nor if nobody
// knows whether the removal was carried out.
func TestRememberedOfARemovedAccount(t *testing.T) {
	f := setUp(t)
	old := f.add(t, "alice@example.org", "old secret")
	f.mustDo(t, f.try("alice@example.org", "old secret", home), f.RemoveAccount(bg, old.Address))
	f.add(t, "alice@example.org", "new secret")
	f.known.add("alice@example.org", old.ID, "old secret", 0) // what such a login does last
	wantKind(t, "old password", f.try("alice@example.org", "old secret", home), fault.Unauthenticated)
	f.mustDo(t, f.try("alice@example.org", "new secret", home))
	ended, end := context.WithCancel(bg)
	end()
	if err := f.RemoveAccount(ended, old.Address); err == nil {
		t.Fatal("removed in a context that has ended")
	}
	if len(f.known.seen) != 0 {
		t.Error("a password is remembered after a removal whose outcome is not known")
	}
}

func TestRemembererIsBounded(t *testing.T) {
	f := setUp(t)
	for i := range maxRemembered + 100 {
		f.known.seen[string(rune('a'+i%26))+time.Duration(i).String()] = remembered{}
	}
	f.known.add("alice@example.org", 1, "secret", 1)
	if n := len(f.known.seen); n > maxRemembered || !f.known.knows("alice@example.org", 1, "secret", 1) {
		t.Errorf("%d are remembered", n)
	}
}

func TestFailuresOfOneLoginFromEverywhere(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "secret")
	f.mustDo(t, f.try("alice@example.org", "secret", home))
	attack := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	for _, login := range []string{"alice@example.org", "ghost@example.org"} { // known or not, all the same
		for i := range 20 {
			wantKind(t, "within", f.try(login, "wrong", attack(i)), fault.Unauthenticated)
		}
		ran := f.hashes.ran.Load()
		wantKind(t, "over", f.try(login, "wrong", attack(20)), fault.Limited)
		wantKind(t, "over, although right", f.try(login, "secret", attack(21)), fault.Limited)
		if f.hashes.ran.Load() != ran {
			t.Error("an attempt over the limit was hashed")
		}
	}
	// The owner's own address does not suffer.
	f.mustDo(t, f.try("alice@example.org", "secret", home))
	wantKind(t, "typing error at home", f.try("alice@example.org", "secrte", home), fault.Unauthenticated)
	f.mustDo(t, f.try("alice@example.org", "secret", home))
	// Each 30 seconds one failure is forgiven.
	f.pass(31 * time.Second)
	f.mustDo(t, f.try("alice@example.org", "secret", away))
	wantKind(t, "one more", f.try("alice@example.org", "wrong", attack(30)), fault.Unauthenticated)
	wantKind(t, "not two", f.try("alice@example.org", "wrong", attack(31)), fault.Limited)
}

func TestFailuresFromOneAddress(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "secret")
	f.mustDo(t, f.try("alice@example.org", "secret", away))
	for i := range 40 {
		wantKind(t, "within", f.try(string(rune('a'+i))+"@example.org", "wrong", away), fault.Unauthenticated)
	}
	wantKind(t, "over", f.try("zz@example.org", "wrong", away), fault.Limited)
	wantKind(t, "over, also for a friend", f.try("alice@example.org", "secret", away), fault.Limited)
	f.mustDo(t, f.try("alice@example.org", "secret", home))
	for range 3 {
		f.mustDo(t, f.try("alice@example.org", "secret", local))
	}
	if want := []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second}; !reflect.DeepEqual(f.slept[:6], want) {
		t.Errorf("answers came after %v, want %v", f.slept[:6], want)
	}
	// A /64 is one address, and so is an IPv4 address in IPv6 dress.
	if blockOf(netip.MustParseAddr("2001:db8::1")) != blockOf(netip.MustParseAddr("2001:db8::ffff%eth0")) {
		t.Error("two addresses of one /64")
	}
	if blockOf(netip.MustParseAddr("::ffff:192.0.2.1")) != blockOf(home) || blockOf(local).IsValid() || blockOf(netip.MustParseAddr("::ffff:127.0.0.1")).IsValid() {
		t.Error("IPv4 in IPv6, no address, or loopback")
	}
}

// Many attempts at once are counted before their hashes are computed.
func TestParallelGuessesGainNothing(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "secret")
	var wg sync.WaitGroup
	kinds := make(chan fault.Kind, 100)
	for range cap(kinds) {
		wg.Go(func() { kinds <- fault.Of(f.try("alice@example.org", "wrong", away)) })
	}
	wg.Wait()
	close(kinds)
	count := map[fault.Kind]int{}
	for k := range kinds {
		count[k]++
	}
	if count[fault.Unauthenticated] != 20 || count[fault.Limited] != 80 {
		t.Errorf("%v", count)
	}
}

// Right passwords that come all at once, as after a restart of the server, are all let in:
// what is only being looked at is no failure.
func TestAllComeBackAtOnce(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "secret")
	for range cap(f.hashes.slots) { // nobody's password is looked at
		f.hashes.slots <- struct{}{}
	}
	var wg sync.WaitGroup
	answers := make(chan error, 100)
	for range cap(answers) {
		wg.Go(func() { answers <- f.try("alice@example.org", "secret", away) })
	}
	for f.hashes.waiting.Load() < 20 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // the others come, and must wait
	for range cap(f.hashes.slots) {
		<-f.hashes.slots
	}
	wg.Wait()
	close(answers)
	for err := range answers {
		if err != nil {
			t.Fatalf("a right password was refused: %v", err)
		}
	}
	f.slow.mu.Lock()
	defer f.slow.mu.Unlock()
	if len(f.slow.looked) > 0 || len(f.slow.logins) > 0 || len(f.slow.addresses) > 0 {
		t.Errorf("left behind: %v %v %v", f.slow.looked, f.slow.logins, f.slow.addresses)
	}
}

// The bucket of a login never holds more than its limit, leaks at its rate, and is
// dropped when it is empty.
func TestBrakeAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		b := newBrake(Options{
			Rand: rand.Reader, FailuresPerAccount: 3, FailuresPerAddress: 5, Forgive: time.Second,
			Now: func() time.Time { return now }, Sleep: func(context.Context, time.Duration) error { return nil }})
		level, at := 0.0, now
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			level, at = math.Max(0, level-now.Sub(at).Seconds()), now
			try, err := b.begin("x", local)
			if (err == nil) != (level+1 <= 3+1e-9) && math.Abs(level-2) > 1e-6 {
				t.Fatalf("level %v: %v", level, err)
			}
			if err != nil {
				continue
			}
			if rapid.Bool().Draw(t, "worked") {
				try.worked(bg)
			} else {
				level++
			}
		}
		now = now.Add(10 * time.Second)
		if try, err := b.begin("x", local); err != nil {
			t.Fatal(err)
		} else if try.worked(bg); len(b.logins) != 0 || len(b.addresses) != 0 {
			t.Fatalf("%v %v", b.logins, b.addresses)
		}
	})
}

func TestBrakeIsBounded(t *testing.T) {
	f := setUp(t)
	for i := range maxBuckets {
		f.slow.logins[time.Duration(i).String()] = bucket{1, f.clock}
	}
	wantKind(t, "new login", f.try("ghost@example.org", "x", away), fault.Unauthenticated)
	if n := len(f.slow.logins); n > maxBuckets-maxBuckets/8+1 {
		t.Errorf("%d logins", n)
	}
	if f.slow.logins["ghost@example.org"].level != 1 {
		t.Error("the newest failure was forgotten")
	}
}

func TestHasherIsBounded(t *testing.T) {
	f := setUp(t)
	h := f.hashes
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error)
	go func() { _, err := h.check(ctx, "", "x"); done <- err }()
	for h.waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	h.waiting.Add(maxWaiting - 1)
	_, err := h.check(bg, "", "x")
	wantKind(t, "queue full", err, fault.Limited)
	h.waiting.Add(1 - maxWaiting)
	cancel()
	if err := <-done; err == nil || h.ran.Load() != 0 {
		t.Errorf("%v, %d hashes ran", err, h.ran.Load())
	}
	for range cap(h.slots) {
		h.leave(1)
	}
	if small, _ := newHasher(Options{Now: time.Now, Argon: Argon{MemoryKiB: 19 << 10}, PasswordMemory: 1, Rand: rand.Reader}); cap(small.slots) != 1 {
		t.Error("less memory than one hash needs must still let one run")
	}
	if usual, _ := newHasher(Options{Now: time.Now, Rand: rand.Reader}.withDefaults()); cap(usual.slots) != 6 {
		t.Errorf("%d hashes in 128 MiB", cap(usual.slots))
	}
}

// A hash by the argon2 reference program, and ones that nobody wrote.
func TestPHC(t *testing.T) {
	const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	f := setUp(t)
	for password, want := range map[string]bool{"password": true, "Password": false, "": false} {
		if got, err := f.hashes.check(bg, reference, password); got != want || err != nil {
			t.Errorf("%q: %v, %v", password, got, err)
		}
	}
	c, salt, key, err := decodePHC(reference)
	if err != nil || encodePHC(c, salt, key) != reference {
		t.Errorf("%v %s", err, encodePHC(c, salt, key))
	}
	for _, bad := range []string{
		"x", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=16$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=65536,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$", "$argon2id$v=19$m=65536,t=2,p=1$$", "$argon2id$v=19$m=1,t=2,p=1$c29tZXNhbHQ$!",
	} {
		if _, _, _, err := decodePHC(bad); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// line is a connection under TLS.
type line struct {
	from netip.Addr
	cert *x509.Certificate
}

func (l line) Peer() netip.Addr                     { return l.from }
func (line) MayLogin() bool                         { return true }
func (line) ChannelBinding(string) []byte           { return nil }
func (l line) ClientCertificate() *x509.Certificate { return l.cert }

// scramLogin plays a SCRAM exchange against the directory, calling between before the
// proof is sent.
func scramLogin(t *testing.T, f *fixture, mech, login, password string, between func()) (Account, error) {
	t.Helper()
	hash := map[string]scram.HashGeneratorFcn{sasl.ScramSHA1: scram.SHA1, sasl.ScramSHA256: scram.SHA256}[mech]
	client, err := hash.NewClient(login, password, "")
	if err != nil {
		t.Fatal(err)
	}
	conv := client.WithMinIterations(1).NewConversation()
	attempt := f.Attempt(bg, line{from: home})
	x, err := sasl.New(mech, sasl.Offer{Protected: true, Nonce: rand.Text}, attempt)
	if err != nil {
		t.Fatal(err)
	}
	message, _ := conv.Step("")
	for i := range 4 {
		if i == 1 && between != nil {
			between()
		}
		challenge, done, err := x.Step([]byte(message))
		if done || err != nil {
			return attempt.Account(), err
		}
		if message, err = conv.Step(string(challenge)); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no end")
	return Account{}, nil
}

func TestScram(t *testing.T) {
	f := setUp(t)
	alice := f.add(t, "alice@example.org", "p\u00e4ss")
	f.add(t, "locked@example.org", "")
	for _, mech := range scramMechanisms {
		got, err := scramLogin(t, f, mech, "ALICE@example.org", "pa\u0308ss", nil)
		if err != nil || got.ID != alice.ID {
			t.Errorf("%s: %+v, %v", mech, got, err)
		}
		for _, login := range []string{"alice@example.org", "ghost@example.org", "locked@example.org", "no address"} {
			f.slept = nil
			f.pass(time.Hour)
			got, err := scramLogin(t, f, mech, login, "wrong", nil)
			wantKind(t, login, err, fault.Unauthenticated)
			if got.ID != 0 || len(f.slept) != 1 || f.slept[0] != firstDelay || fault.Say(err) != "authentication failed" {
				t.Errorf("%s: %+v, slept %v, %v", login, got, f.slept, err)
			}
		}
	}
	got, err := scramLogin(t, f, sasl.ScramSHA256, "alice@example.org", "p\u00e4ss", func() { f.mustDo(t, f.SetPassword(bg, alice.Address, "new")) })
	wantKind(t, "changed meanwhile", err, fault.Unauthenticated)
	if got.ID != 0 {
		t.Error("an account although it failed")
	}
	for range 25 {
		scramLogin(t, f, sasl.ScramSHA1, "bob@example.org", "wrong", nil)
	}
	_, err = scramLogin(t, f, sasl.ScramSHA1, "bob@example.org", "wrong", nil)
	wantKind(t, "too many", err, fault.Limited)
}

// What a client sees before its proof does not tell an unknown login from a known.
func TestScramKeysOfUnknownLogin(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "secret")
	keys := func(login string) sasl.Keys {
		k, err := f.Attempt(bg, line{from: home}).ScramKeys(login, sasl.ScramSHA256)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	real, fake := keys("alice@example.org"), keys("ghost@example.org")
	if len(real.Salt) != len(fake.Salt) || real.Iterations != fake.Iterations || len(real.StoredKey) != len(fake.StoredKey) {
		t.Errorf("%+v %+v", real, fake)
	}
	if !reflect.DeepEqual(fake, keys("Ghost@EXAMPLE.org")) || reflect.DeepEqual(fake, keys("ghoul@example.org")) {
		t.Error("salts of unknown logins")
	}
	f.Close()
	f.open(t)
	if !reflect.DeepEqual(fake, keys("ghost@example.org")) {
		t.Error("after a restart an unknown login has another salt")
	}
}

// When the configured cost changes, a password gets it at its next login, once, and
// stays the same password under the same version.
func TestCostFollowsOptions(t *testing.T) {
	f := setUp(t)
	alice := f.add(t, "alice@example.org", "p\u00e4ss")
	cost := func() (Argon, int, int, uint64) {
		rec, err := f.account(bg, alice.ID)
		if err != nil {
			t.Fatal(err)
		}
		c, _, _, err := decodePHC(rec.hash)
		if err != nil {
			t.Fatal(err)
		}
		return c, rec.scram[sasl.ScramSHA1].Iterations, rec.scram[sasl.ScramSHA256].Iterations, rec.version
	}
	reopen := func() {
		f.Close()
		f.open(t)
	}
	_, _, _, version := cost()
	old := f.opt.Argon
	for _, c := range []struct {
		argon      Argon
		iterations int
	}{{old, 5}, {Argon{MemoryKiB: 16, Passes: 2, Lanes: 1}, 5}, {Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, 3}} {
		f.opt.Argon, f.opt.ScramIterations = c.argon, c.iterations
		reopen()
		if fake, err := f.Attempt(bg, line{from: home}).ScramKeys("ghost@example.org", sasl.ScramSHA1); err != nil || fake.Iterations != c.iterations {
			t.Errorf("keys of nobody: %+v, %v", fake, err)
		}
		before, n, _, _ := cost()
		wantKind(t, "wrong password", f.try("alice@example.org", "x", home), fault.Unauthenticated)
		if same, m, _, _ := cost(); same != before || m != n {
			t.Error("a wrong password has changed something")
		}
		f.mustDo(t, f.try("alice@example.org", "pa\u0308ss", home))
		argon, n1, n256, v := cost()
		if argon != c.argon || n1 != c.iterations || n256 != c.iterations || v != version {
			t.Errorf("%v %d %d version %d, want %+v version %d", argon, n1, n256, v, c, version)
		}
		reopen()
		ran := f.hashes.ran.Load()
		f.mustDo(t, f.try("alice@example.org", "p\u00e4ss", home))
		if n := f.hashes.ran.Load() - ran; n != 1 {
			t.Errorf("with the right cost a login makes %d hashes", n)
		}
		for _, mech := range scramMechanisms {
			if got, err := scramLogin(t, f, mech, "alice@example.org", "p\u00e4ss", nil); err != nil || got.ID != alice.ID {
				t.Errorf("%s: %+v, %v", mech, got, err)
			}
		}
	}
}

// A login that renews what is kept does not undo a change of password that came
// between.
func TestCostAndChangeOfPassword(t *testing.T) {
	f := setUp(t)
	alice := f.add(t, "alice@example.org", "old")
	rec, err := f.account(bg, alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	f.mustDo(t, f.SetPassword(bg, alice.Address, "new"))
	f.opt.ScramIterations = 7
	f.Close()
	f.open(t)
	f.refresh(bg, alice.ID, rec, "old")
	wantKind(t, "old password", f.try("alice@example.org", "old", home), fault.Unauthenticated)
	f.mustDo(t, f.try("alice@example.org", "new", home))
	f.mustDo(t, f.RemoveAccount(bg, alice.Address))
	f.refresh(bg, alice.ID, rec, "old")
	wantKind(t, "removed", f.try("alice@example.org", "old", home), fault.Unauthenticated)
}

func TestAttemptByPassword(t *testing.T) {
	f := setUp(t)
	alice := f.add(t, "alice@example.org", "secret")
	a := f.Attempt(bg, line{from: home})
	x, err := sasl.New(sasl.Plain, sasl.Offer{Protected: true}, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, done, err := x.Step([]byte("\x00alice@example.org\x00secret")); !done || err != nil || a.Account().ID != alice.ID {
		t.Errorf("%v %v %+v", done, err, a.Account())
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.String()
		addr := rapid.Custom(func(t *rapid.T) mail.Address {
			return mail.Address{Local: word.Draw(t, "local"), Domain: word.Draw(t, "domain")}
		})
		when := time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "when"), 0).UTC()
		a := &accountRecord{addr.Draw(t, "a"), when, rapid.Uint64().Draw(t, "version"), word.Draw(t, "hash"), map[string]sasl.Keys{}, word.Draw(t, "foreign"), rapid.Bool().Draw(t, "waiting")}
		if rapid.Bool().Draw(t, "keys") {
			a.scram[sasl.ScramSHA1] = sasl.Keys{Salt: []byte("s"), Iterations: 4096, StoredKey: []byte("k"), ServerKey: []byte("v")}
		}
		kind, d, err := unseal(a.encode())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeAccount(kind, d); err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("%+v -> %+v, %v", a, got, err)
		}
		e := entry{targets: rapid.SliceOfN(addr, 1, 5).Draw(t, "targets")}
		kind, d, err = unseal(e.encode())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeEntry(kind, d); err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v -> %+v, %v", e, got, err)
		}
	})
}

func TestVerifyFindsDamage(t *testing.T) {
	eng := newEngine(t)
	defer eng.Close()
	f := newFixture(t, eng)
	defer f.Close()
	f.mustDo(t, f.AddDomain(bg, "example.org"))
	alice := f.add(t, "alice@example.org", "secret")
	if p := f.problems(t); len(p) > 0 {
		t.Fatal(p)
	}
	damage := func(about string, key, value []byte, want int) {
		t.Helper()
		f.put(t, key, value)
		if p := f.problems(t); len(p) != want {
			t.Errorf("%s: %q", about, p)
		}
	}
	good := (&accountRecord{address: at("alice@example.org"), created: f.clock}).encode()
	bad := bytes.Clone(good)
	bad[3] ^= 1
	damage("one bit of an account", accountKey(alice.ID), bad, 2) // unreadable, and so missing
	if _, err := f.Lookup(bg, alice.Address); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a damaged record: %v", err)
	}
	damage("mended", accountKey(alice.ID), good, 0)
	damage("account nobody names", accountKey(alice.ID+1), good, 3) // its id was not given, and it has no mailboxes
	damage("foreign domain", entryKey(at("x@example.com")), entry{targets: list("a@b")}.encode(), 4)
}

func (f *fixture) put(t *testing.T, key, value []byte) {
	t.Helper()
	f.mustDo(t, f.update(bg, func(w engine.Writer) error { return w.Put(key, value) }))
}
