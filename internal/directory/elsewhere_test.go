package directory

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// setUpForeign is setUp with as much memory for passwords as a server has.
func setUpForeign(t testing.TB) *fixture {
	f := setUp(t)
	f.Close()
	f.opt.PasswordMemory = 128 << 20
	f.open(t)
	return f
}

const foreignPassword = "Blaue Möwe 7!"

// foreignHashes are those of real programs.
func foreignHashes(t testing.TB) (all []string) {
	t.Helper()
	file, err := os.Open("foreign/testdata/hashes.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if _, hash, ok := strings.Cut(s.Text(), "\t"); ok {
			all = append(all, hash)
		}
	}
	return all
}

func (f *fixture) addWith(t failer, addr string, with Login) Account {
	t.Helper()
	a, err := f.AddAccountWith(bg, at(addr), with, store.Quota{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (f *fixture) state(t failer, id mail.AccountID) LoginState {
	t.Helper()
	s, err := f.LoginOf(bg, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever made the hash: its password logs in, another one does not, and then the hash is
// ours and SCRAM works.
func TestForeignHashesLogIn(t *testing.T) {
	f := setUpForeign(t)
	schemes := map[string]bool{}
	for i, hash := range foreignHashes(t) {
		h, err := f.ParseHash(hash)
		if err != nil {
			t.Fatal(err)
		}
		if schemes[h.Scheme()] {
			continue
		}
		schemes[h.Scheme()] = true
		addr := fmt.Sprintf("u%d@example.org", i)
		a := f.addWith(t, addr, Login{Hash: hash})
		_, plain := h.Plain()
		if s := f.state(t, a.ID); s.Foreign == plain || !plain && s.Scheme != h.Scheme() {
			t.Errorf("%s: %+v", h.Scheme(), s)
		}
		f.pass(time.Hour)
		wantKind(t, h.Scheme(), f.try(addr, "Blaue Möwe 7", home), fault.Unauthenticated)
		if s := f.state(t, a.ID); s.Foreign == plain {
			t.Errorf("%s: after a wrong password %+v", h.Scheme(), s)
		}
		f.mustDo(t, f.try(addr, foreignPassword, home))
		if s := f.state(t, a.ID); s.Foreign || s.Scheme != "argon2id" {
			t.Errorf("%s: after the login %+v", h.Scheme(), s)
		}
		f.known.forget(addr)
		f.mustDo(t, f.try(addr, foreignPassword, home))
		wantKind(t, h.Scheme(), f.try(addr, "Blaue Möwe 7", home), fault.Unauthenticated)
		rec, err := f.account(bg, a.ID)
		f.mustDo(t, err)
		prepared, _ := sasl.PreparePassword(foreignPassword)
		for _, mech := range scramMechanisms {
			k := rec.scram[mech]
			if want, err := sasl.DeriveKeys(mech, prepared, k.Salt, k.Iterations); err != nil || !slices.Equal(want.StoredKey, k.StoredKey) {
				t.Errorf("%s: no keys for %s, %v", h.Scheme(), mech, err)
			}
		}
	}
	if len(schemes) < 26 {
		t.Errorf("only %d schemes", len(schemes))
	}
}

// Nothing of a password or of who has it may be told by work: an account with a hash of
// others costs our hash, too, and a wrong password has the one answer.
func TestForeignHashesCostOursToo(t *testing.T) {
	f := setUpForeign(t)
	f.addWith(t, "a@example.org", Login{Hash: "{SHA}b+EBB60C2GpM+87U5kr1zSBlavQ="})
	for _, login := range []string{"a@example.org", "nobody@example.org"} {
		f.pass(time.Hour)
		ran := f.hashes.ran.Load()
		err := f.try(login, "wrong", home)
		if n := f.hashes.ran.Load() - ran; n != 1 || err == nil || err.Error() != errWrong().Error() {
			t.Errorf("%s: %d hashes, %v", login, n, err)
		}
	}
}

// A password in the clear is nowhere in the store.
func TestPlainIsNotStored(t *testing.T) {
	f := setUpForeign(t)
	f.addWith(t, "a@example.org", Login{Hash: "{PLAIN}Gänseblümchen99"})
	f.mustDo(t, f.try("a@example.org", "Gänseblümchen99", home))
	f.mustDo(t, f.SetLogin(bg, at("a@example.org"), Login{Hash: "{CLEARTEXT}Löwenzahn88"}), f.try("a@example.org", "Löwenzahn88", home))
	records := 0
	f.mustDo(t, f.eng.View(bg, shard, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(key, value []byte) bool {
			records++
			for _, secret := range []string{"nseblümchen99", "wenzahn88"} {
				if strings.Contains(string(value)+string(key), secret) {
					t.Errorf("record %q holds the password", key)
				}
			}
			return true
		})
	}))
	if records < 4 {
		t.Errorf("%d records", records)
	}
}

// A hash over the limits is refused when it is brought, and so is one of no known scheme; the
// account stays as it was.
func TestForeignHashesAreRefused(t *testing.T) {
	f := setUp(t) // 64 KiB for passwords
	f.add(t, "a@example.org", "secret")
	for hash, kind := range map[string]fault.Kind{
		"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$MTIzNDU2Nzg$AAAAAAAAAAAAAAAAAAAAAA": fault.TooLarge,
		"{SHA512-CRYPT}$6$rounds=99999999$a$" + strings.Repeat("a", 86):               fault.TooLarge,
		"{DES-CRYPT}8CRXWF0oaD2yc": fault.Unsupported, "{SSHA}x": fault.Invalid, "{PLAIN}a\x01": fault.Invalid,
	} {
		wantKind(t, hash, f.SetLogin(bg, at("a@example.org"), Login{Hash: hash}), kind)
		_, err := f.AddAccountWith(bg, at("b@example.org"), Login{Hash: hash}, store.Quota{})
		wantKind(t, hash, err, kind)
	}
	f.mustDo(t, f.try("a@example.org", "secret", home))
	_, err := f.Lookup(bg, at("b@example.org"))
	wantKind(t, "b", err, fault.NotFound)
}

func TestForeignHashesCanBeKept(t *testing.T) {
	f := setUpForeign(t)
	f.Close()
	f.opt.KeepForeign = true
	f.open(t)
	a := f.addWith(t, "a@example.org", Login{Hash: "{SHA}b+EBB60C2GpM+87U5kr1zSBlavQ="})
	for range 2 {
		f.mustDo(t, f.try("a@example.org", foreignPassword, home))
		f.known.forget("a@example.org")
	}
	if s := f.state(t, a.ID); !s.Foreign || s.Scheme != "SHA" {
		t.Errorf("%+v", s)
	}
	f.mustDo(t, f.SetPassword(bg, a.Address, "new one"), f.try("a@example.org", "new one", home))
	wantKind(t, "the old one", f.try("a@example.org", foreignPassword, home), fault.Unauthenticated)
	if s := f.state(t, a.ID); s.Foreign || s.Scheme != "argon2id" {
		t.Errorf("%+v", s)
	}
}

// Programs that prefer SCRAM are not led into a failure: it is offered when nobody's password
// is elsewhere, and what is asked for all the same fails as for a login that is not there.
func TestScramWaitsForPasswords(t *testing.T) {
	f := setUpForeign(t)
	offered := func() bool { return slices.Contains(f.Offer(bg, line{from: home}).Mechanisms(), sasl.ScramSHA256) }
	if !offered() {
		t.Fatal("not offered to begin with")
	}
	a := f.addWith(t, "a@example.org", Login{Hash: "{SHA}b+EBB60C2GpM+87U5kr1zSBlavQ="})
	b := f.addWith(t, "b@example.org", Login{Waiting: true})
	if offered() {
		t.Error("offered while an account cannot use it")
	}
	for _, login := range []string{"a@example.org", "b@example.org", "nobody@example.org"} {
		k, err := f.Attempt(bg, line{from: home}).ScramKeys(login, sasl.ScramSHA256)
		if err != nil || len(k.Salt) != saltLen || k.Iterations != f.opt.ScramIterations {
			t.Errorf("%s: %+v, %v", login, k, err)
		}
	}
	f.mustDo(t, f.try("a@example.org", foreignPassword, home))
	if offered() {
		t.Error("offered while an account waits")
	}
	f.mustDo(t, f.SetPassword(bg, b.Address, "now"))
	if !offered() {
		t.Error("not offered when all is known")
	}
	f.mustDo(t, f.SetLogin(bg, a.Address, Login{Waiting: true}))
	if offered() {
		t.Error("offered while an account waits again")
	}
	f.mustDo(t, f.RemoveAccount(bg, a.Address))
	if !offered() {
		t.Error("not offered after the last one is gone")
	}
	f.addWith(t, "c@example.org", Login{Waiting: true})
	f.opt.Scram = ScramAlways
	f.Close()
	f.open(t)
	if !offered() {
		t.Error("not offered although always")
	}
	f.opt.Scram = ScramNever
	f.Close()
	f.open(t)
	if offered() {
		t.Error("offered although never")
	}
}

// Hashes that take the memory of several of ours wait for it and let nobody starve.
func TestLargeHashesShareTheMemory(t *testing.T) {
	f := setUpForeign(t)
	f.Close()
	f.opt.Argon, f.opt.PasswordMemory = Argon{MemoryKiB: 2 << 10, Passes: 1, Lanes: 1}, 9<<20
	f.open(t)
	hash := "$argon2id$v=19$m=8192,t=2,p=2$rDXmfE8pBSDE2Pu/19q7tw$e3CmaMNl6O7Mk09lD8pprA"
	var wg sync.WaitGroup
	for i := range 6 {
		addr := fmt.Sprintf("u%d@example.org", i)
		if i%2 == 0 {
			f.addWith(t, addr, Login{Hash: hash})
		} else {
			f.add(t, addr, foreignPassword)
		}
		wg.Go(func() {
			if err := f.try(addr, foreignPassword, home); err != nil {
				t.Errorf("%s: %v", addr, err)
			}
		})
	}
	wg.Wait()
	if n := len(f.hashes.slots); n != 0 || cap(f.hashes.slots) != 4 {
		t.Errorf("%d of %d places are taken", n, cap(f.hashes.slots))
	}
	if places, err := f.hashes.enterFor(bg, 8<<20); places != 4 || err != nil {
		t.Errorf("%d places, %v", places, err)
	}
}

// The record of an account with an ordinary login has the form that earlier versions wrote.
func TestOldAccountRecords(t *testing.T) {
	old := seal(recAccount, []byte("\x01a\x07example\x01\x02\x01h\x00\x00\x00\x00\x00\x00\x00\x00"))
	kind, d, err := unseal(old)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := decodeAccount(kind, d)
	if err != nil || rec.address != (mail.Address{Local: "a", Domain: "example"}) || rec.version != 2 || rec.hash != "h" || rec.elsewhere() {
		t.Fatalf("%+v, %v", rec, err)
	}
	if got := rec.encode(); string(got) != string(old) {
		t.Errorf("%q, was %q", got, old)
	}
	rec.waiting = true
	if got := rec.encode(); got[0] != recAccountElsewhere {
		t.Errorf("kind %d", got[0])
	}
}

// What is noted of accounts is held against their records, and brought into accord.
func TestElsewhereIsVerifiedAndRepaired(t *testing.T) {
	eng := newEngine(t)
	defer eng.Close()
	f := newFixture(t, eng)
	f.mustDo(t, f.AddDomain(bg, "example.org"))
	a := f.addWith(t, "a@example.org", Login{Waiting: true})
	b := f.add(t, "b@example.org", "x")
	f.mustDo(t, eng.Update(bg, shard, func(w engine.Writer) error {
		if err := w.Delete(elsewhereKey(a.ID)); err != nil {
			return err
		}
		return w.Put(elsewhereKey(b.ID), seal(recElsewhere, nil))
	}))
	if p := f.problems(t); len(p) != 2 {
		t.Errorf("%q", p)
	}
	f.Close()
	f.mustDo(t, Repair(bg, eng, []mail.AccountID{a.ID, b.ID}, nil, f.now(), func(Mended) {}))
	f.open(t)
	defer f.Close()
	if p := f.problems(t); len(p) != 0 {
		t.Errorf("%q", p)
	}
	if s := f.state(t, a.ID); !s.Waiting {
		t.Errorf("%+v", s)
	}
}

// former is a former server that knows passwords.
type former struct {
	mu      sync.Mutex
	knows   map[string]string
	down    bool
	mute    bool          // it takes passwords, and says nothing about those that are wrong
	gate    chan struct{} // not nil: it answers when this is closed
	asked   []string
	arrived []string
	present []string

	versions []uint64 // of the passwords that it was told of
}

func (o *former) Check(ctx context.Context, at Origin, user, password string) error {
	o.mu.Lock()
	o.asked = append(o.asked, user)
	down, gate, want := o.down, o.gate, o.knows[user]
	o.mu.Unlock()
	if gate != nil {
		<-gate
	}
	switch {
	case down:
		return fault.New(fault.Closed, "no answer from "+at.Server)
	case o.mute && want != password:
		return Shown(fault.New(fault.Unavailable, at.Server+" says BAD"))
	case want == "" || want != password:
		return fault.New(fault.Unauthenticated, "no")
	}
	return nil
}

func (o *former) Arrived(a Account, at Origin, user string, with Typed) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrived = append(o.arrived, fmt.Sprintf("%s as %s from %s, mail %v", a.Address, user, at.Server, at.Mail))
	o.versions = append(o.versions, with.Version)
}

func (o *former) Present(a Account, _ Origin, _ string, with Typed) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.present = append(o.present, a.Address.String())
	o.versions = append(o.versions, with.Version)
}

func (o *former) questions() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.asked)
	o.asked = nil
	return n
}

// setUpFormer is setUp with a former server of example.org.
func setUpFormer(t testing.TB, settings map[string]string) (*fixture, *former) {
	f := setUp(t)
	f.Close()
	old := &former{knows: map[string]string{"anna@example.org": "Veilchen", "anna": "Veilchen", "bert@example.org": "Nelken", "bert": "Nelken"}}
	f.opt.Former = old
	f.open(t)
	all := map[string]string{"migrate-from": "imaps://old.example:993"}
	maps.Copy(all, settings)
	f.mustDo(t, f.Set(bg, "example.org", all))
	return f, old
}

// The first login asks the former server, the second one does not.
func TestFirstLogin(t *testing.T) {
	f, old := setUpFormer(t, nil)
	a := f.addWith(t, "Anna@example.org", Login{Waiting: true})
	old.knows["Anna@example.org"] = "Veilchen"
	wantKind(t, "wrong", f.try("anna@example.org", "Rosen", home), fault.Unauthenticated)
	if s := f.state(t, a.ID); !s.Waiting || old.questions() != 1 {
		t.Errorf("after a wrong password: %+v", s)
	}
	f.mustDo(t, f.try("ANNA@example.org", "Veilchen", home))
	if s := f.state(t, a.ID); s.Waiting || s.Scheme != "argon2id" || old.questions() != 1 {
		t.Errorf("after the login: %+v", s)
	}
	f.known.forget("anna@example.org")
	old.down = true
	f.mustDo(t, f.try("anna@example.org", "Veilchen", home))
	wantKind(t, "wrong again", f.try("anna@example.org", "Rosen", home), fault.Unauthenticated)
	if len(old.present) != 1 {
		t.Errorf("present %q", old.present)
	}
	if n := old.questions(); n != 0 || len(old.arrived) != 1 || old.arrived[0] != "Anna@example.org as Anna@example.org from imaps://old.example:993, mail true" {
		t.Errorf("%d questions, %q", n, old.arrived)
	}
	if _, err := scramLogin(t, f, sasl.ScramSHA256, "anna@example.org", "Veilchen", func() {}); err != nil {
		t.Error(err)
	}
}

func TestFirstLoginSettings(t *testing.T) {
	f, old := setUpFormer(t, map[string]string{"migrate-user": "localpart", "migrate-mail": "no", "migrate-until": "2027-02-01"}) // now is 2027-01-15
	f.addWith(t, "anna@example.org", Login{Waiting: true})
	f.addWith(t, "bert@example.org", Login{Waiting: true})
	f.mustDo(t, f.try("anna@example.org", "Veilchen", home))
	if len(old.arrived) != 1 || old.arrived[0] != "anna@example.org as anna from imaps://old.example:993, mail false" {
		t.Errorf("%q", old.arrived)
	}
	f.pass(20 * 24 * time.Hour)
	old.questions()
	wantKind(t, "too late", f.try("bert@example.org", "Nelken", home), fault.Unauthenticated)
	f.mustDo(t, f.Set(bg, "example.org", map[string]string{"migrate-until": ""}), f.try("bert@example.org", "Nelken", home))
	f.addWith(t, "anna@example.net", Login{Waiting: true}) // of a domain without a former server
	wantKind(t, "other domain", f.try("anna@example.net", "Veilchen", home), fault.Unauthenticated)
	if n := old.questions(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// With migrate-create whoever the former server knows gets an account: nobody else, and no
// name that a server may take for another one.
func TestFirstLoginCreates(t *testing.T) {
	f, old := setUpFormer(t, nil)
	wantKind(t, "not set", f.try("anna@example.org", "Veilchen", home), fault.Unauthenticated)
	if old.questions() != 0 {
		t.Error("asked though nobody is to be made")
	}
	f.mustDo(t, f.Set(bg, "example.org", map[string]string{"migrate-create": "yes"}))
	owner := f.add(t, "owner@example.org", "x")
	f.mustDo(t, f.AddAlias(bg, at("bert@example.org"), owner.Address))
	for _, login := range []string{"bert@example.org", "anna*master@example.org", "anna+x@example.org", "anna%x@example.org", "\"an na\"@example.org", "anna", "anna@example.com", "", "owner@example.org"} {
		old.knows[login] = "Veilchen"
		f.pass(time.Hour)
		wantKind(t, login, f.try(login, "Veilchen", home), fault.Unauthenticated)
	}
	if n := old.questions(); n != 0 {
		t.Errorf("%d questions about names that nobody arrives under", n)
	}
	wantKind(t, "wrong", f.try("anna@example.org", "Rosen", home), fault.Unauthenticated)
	_, err := f.Lookup(bg, at("anna@example.org"))
	wantKind(t, "not made", err, fault.NotFound)
	f.mustDo(t, f.try("Anna@Example.org", "Veilchen", home), f.try("anna@example.org", "Veilchen", home))
	if a, err := f.Lookup(bg, at("anna@example.org")); err != nil || a.Address.String() != "anna@example.org" || old.questions() != 2 || len(old.arrived) != 1 {
		t.Errorf("%+v, %v, %q", a, err, old.arrived)
	}
}

// A former server that does not answer makes no login wrong: it is a failure for a time, and
// counts against nobody.
func TestFormerServerDown(t *testing.T) {
	f, old := setUpFormer(t, nil)
	a := f.addWith(t, "anna@example.org", Login{Waiting: true})
	old.down = true
	for range 100 {
		wantKind(t, "down", f.try("anna@example.org", "Veilchen", home), fault.Unavailable)
	}
	if s := f.state(t, a.ID); !s.Waiting || len(f.slept) != 0 {
		t.Errorf("%+v, slept %v", s, f.slept)
	}
	old.down = false
	f.mustDo(t, f.try("anna@example.org", "Veilchen", home))
}

// Whoever guesses through us is stopped by the brake before the former server hears of it;
// an empty password, which LDAP takes for a visit without a name, it never hears of.
func TestAttackGuessingAtTheFormerServer(t *testing.T) {
	f, old := setUpFormer(t, map[string]string{"migrate-create": "yes"})
	f.addWith(t, "anna@example.org", Login{Waiting: true})
	old.knows["anna@example.org"] = ""
	for _, p := range []string{"", "\x00", "\u00ad"} {
		wantKind(t, "empty", f.try("anna@example.org", p, home), fault.Unauthenticated)
	}
	if n := old.questions(); n != 0 {
		t.Errorf("%d questions about empty passwords", n)
	}
	old.knows["anna@example.org"] = "Veilchen"
	f.pass(time.Hour)
	for i := range 200 { // one account, many addresses
		f.try("anna@example.org", fmt.Sprintf("guess %d", i), netip.AddrFrom4([4]byte{192, 0, byte(i), 1}))
	}
	if n := old.questions(); n != f.opt.withDefaults().FailuresPerAccount {
		t.Errorf("%d guesses at one account went through", n)
	}
	f.pass(24 * time.Hour)
	for i := range 200 { // one address, many accounts
		f.try(fmt.Sprintf("user%d@example.org", i), "guess", home)
	}
	if n := old.questions(); n != f.opt.withDefaults().FailuresPerAddress {
		t.Errorf("%d guesses from one address went through", n)
	}
}

// A former server that answers wrong passwords with anything but a no is no place to guess at:
// what was sent there counts. What was not, as nobody could be asked, does not.
func TestAttackGuessingAtAFormerServer(t *testing.T) {
	f, old := setUpFormer(t, nil)
	f.addWith(t, "anna@example.org", Login{Waiting: true})
	most := f.opt.withDefaults().FailuresPerAccount
	old.down = true
	for range 3 * most {
		wantKind(t, "down", f.try("anna@example.org", "Rosen", home), fault.Unavailable)
	}
	if n := old.questions(); n != 3*most {
		t.Errorf("%d questions of %d while it is down", n, 3*most)
	}
	old.down, old.mute = false, true
	for i := range 5 * most {
		want := fault.Unavailable
		if i >= most {
			want = fault.Limited
		}
		wantKind(t, fmt.Sprint("guess ", i), f.try("anna@example.org", fmt.Sprint("guess ", i), home), want)
	}
	if n := old.questions(); n != most {
		t.Errorf("%d passwords were tried, and %d are allowed", n, most)
	}
}

// bcrypt looks at 72 bytes of a password. Who types others behind them may come in, as
// at the server that made the hash, but does not change what the owner's password is.
func TestAttackTailOfALongPassword(t *testing.T) {
	f := setUpForeign(t)
	hash := func(password string) Login {
		b, err := bcrypt.GenerateFromPassword([]byte(password[:min(len(password), 72)]), bcrypt.MinCost)
		f.mustDo(t, err)
		return Login{Hash: "{BLF-CRYPT}" + string(b)}
	}
	long := strings.Repeat("x", 70) + "right tail"
	a := f.addWith(t, "anna@example.org", hash(long))
	f.mustDo(t, f.try("anna@example.org", long[:72]+" wrong", home))
	f.known.forget("anna@example.org")
	f.mustDo(t, f.try("anna@example.org", long, home))
	if s := f.state(t, a.ID); !s.Foreign {
		t.Errorf("%+v", s)
	}
	b := f.addWith(t, "bert@example.org", hash(long[:72])) // the control
	f.mustDo(t, f.try("bert@example.org", long[:72], home))
	if s := f.state(t, b.ID); s.Foreign {
		t.Errorf("%+v", s)
	}
}

// One name in several spellings, which the former server may take for one, has one brake, and
// arrives in one of them only.
func TestAttackSpellingsOfAName(t *testing.T) {
	f, old := setUpFormer(t, map[string]string{"migrate-create": "yes"})
	most := f.opt.withDefaults().FailuresPerAccount
	spellings := []string{"ren\u00e9", "rene\u0301", "RENE\u0301", "\uff52en\u00e9", "r\uff45n\u00e9",
		"ren\u00e9\u00ad", "r\u200ben\u00e9", "re\u200c\u200dn\u00e9", "ren\u00e9\ufe0f", "ren\u00e9\U000e0101", "ren\u00e9\u3164", "\u2062ren\u00e9"}
	for i := range most * len(spellings) {
		want := fault.Unauthenticated
		if i >= most {
			want = fault.Limited
		}
		name := spellings[i%len(spellings)]
		wantKind(t, fmt.Sprintf("%+q", name), f.try(name+"@example.org", fmt.Sprint("guess ", i), netip.AddrFrom4([4]byte{192, 0, byte(i), 1})), want)
	}
	if n := old.questions(); n == 0 || n > most {
		t.Errorf("%d guesses, and %d are allowed", n, most)
	}
	f.try("renee@example.org", "guess", netip.AddrFrom4([4]byte{192, 0, 3, 1})) // the control
	if n := old.questions(); n != 1 {
		t.Errorf("%d guesses at another name", n)
	}
	for _, name := range append(spellings[1:], "anna\u200b", "an\u00adna", "\ufeffanna", "\ue000") {
		f.pass(24 * time.Hour)
		old.knows[name+"@example.org"] = "Veilchen"
		wantKind(t, fmt.Sprintf("%+q", name), f.try(name+"@example.org", "Veilchen", home), fault.Unauthenticated)
	}
	if n := old.questions(); n != 0 {
		t.Errorf("%d questions about other spellings", n)
	}
	for _, name := range []string{"ren\u00e9", "\u5f20\u4f1f", "m\u00fcller-\u00df"} { // the control
		old.knows[name+"@example.org"] = "Veilchen"
		f.mustDo(t, f.try(name+"@example.org", "Veilchen", home))
	}
}

// The former server's keeper can tell the password that has arrived from one that was made
// here since, of all who arrive.
func TestPasswordThatArrivedIsTold(t *testing.T) {
	f, old := setUpFormer(t, map[string]string{"migrate-create": "yes"})
	f.addWith(t, "anna@example.org", Login{Waiting: true})
	f.addWith(t, "carl@example.org", Login{Hash: "{SHA}b+EBB60C2GpM+87U5kr1zSBlavQ="})
	for who, password := range map[string]string{"anna@example.org": "Veilchen", "bert@example.org": "Nelken", "carl@example.org": foreignPassword} {
		old.versions = nil
		for range 2 {
			f.mustDo(t, f.try(who, password, home))
			f.known.forget(who)
		}
		f.mustDo(t, f.SetPassword(bg, at(who), "made here"), f.try(who, "made here", home))
		if v := old.versions; len(v) != 3 || v[0] != v[1] || v[1] == v[2] {
			t.Errorf("%s: told of versions %d", who, v)
		}
	}
}

// Connections that a program opens at once ask one question together.
func TestOneQuestionForManyConnections(t *testing.T) {
	f, old := setUpFormer(t, nil)
	f.addWith(t, "anna@example.org", Login{Waiting: true})
	f.Close()
	f.opt.Sleep = func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return ctx.Err() } // time stands
	f.open(t)
	old.gate = make(chan struct{})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := f.try("anna@example.org", "Veilchen", home); err != nil {
				t.Error(err)
			}
		})
	}
	for old.wasAsked() == 0 {
		runtime.Gosched()
	}
	close(old.gate)
	wg.Wait()
	if n := old.questions(); n != 1 || len(old.arrived) != 1 || len(f.flights.going) != 0 {
		t.Errorf("%d questions, %d arrivals, %d flights", n, len(old.arrived), len(f.flights.going))
	}
}

func (o *former) wasAsked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

// Who comes when another connection's question has just been answered is let in like that one.
func TestFirstLoginJustLanded(t *testing.T) {
	f, old := setUpFormer(t, nil)
	f.addWith(t, "anna@example.org", Login{Waiting: true})
	l := f.login("anna@example.org")
	id, rec, err := f.credentials(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	at, awaited, err := f.awaits(t.Context(), l, id, rec)
	if err != nil || !awaited {
		t.Fatalf("%v, %v", awaited, err)
	}
	if err := f.try("anna@example.org", "Veilchen", home); err != nil {
		t.Fatal(err)
	}
	if _, err := f.arrive(t.Context(), l, at, "Veilchen", "Veilchen", home); err != nil {
		t.Error(err)
	}
	if _, err := f.arrive(t.Context(), l, at, "Rosen", "Rosen", home); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("with another password: %v", err)
	}
	if n := old.questions(); n != 1 || len(f.flights.going) != 0 {
		t.Errorf("%d questions, %d flights", n, len(f.flights.going))
	}
}

// mirror is a former server that is this one: the name of it has moved along.
type mirror struct{ f *fixture }

func (m mirror) Check(_ context.Context, _ Origin, user, password string) error {
	return m.f.try(user, password, netip.MustParseAddr("127.0.0.1"))
}
func (mirror) Arrived(Account, Origin, string, Typed) {}
func (mirror) Present(Account, Origin, string, Typed) {}

// migrate-from that leads here ends in a failure for a time, and in no loop.
func TestFormerServerIsThisOne(t *testing.T) {
	f, _ := setUpFormer(t, nil)
	f.addWith(t, "anna@example.org", Login{Waiting: true})
	f.Close()
	f.opt.Former = mirror{f}
	f.open(t)
	wantKind(t, "itself", f.try("anna@example.org", "Veilchen", home), fault.Unavailable)
	if len(f.flights.going) != 0 {
		t.Error("still in the air")
	}
}

// Whoever comes with the hash of the former server arrives with his first login, too: it is the
// password that he has there. A password that was never there is told to nobody.
func TestArrivalWithAHash(t *testing.T) {
	f, old := setUpFormer(t, nil)
	f.addWith(t, "anna@example.org", Login{Hash: "{SHA}b+EBB60C2GpM+87U5kr1zSBlavQ="})
	f.add(t, "new@example.net", "x")
	wantKind(t, "wrong", f.try("anna@example.org", "Rosen", home), fault.Unauthenticated)
	f.mustDo(t, f.try("anna@example.org", foreignPassword, home), f.try("new@example.net", "x", home))
	if len(old.arrived) != 1 || old.questions() != 0 || len(old.present) != 0 {
		t.Errorf("%q arrived, %q present", old.arrived, old.present)
	}
}
