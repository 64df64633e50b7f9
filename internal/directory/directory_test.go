package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// fixture is a directory on an engine in memory, with a clock that stands still and
// mailboxes that are only counted.
type fixture struct {
	*Directory
	eng  engine.Engine
	data *counted
	opt  Options

	mu    sync.Mutex
	clock time.Time
	slept []time.Duration
}

// counted is a Data that keeps the set of accounts with mailboxes, and fails when
// told to.
type counted struct {
	mu   sync.Mutex
	has  map[mail.AccountID]bool
	fail error
}

func (*counted) Provided(ctx context.Context, _ uint64, _ func(context.Context) error, _ func() error) context.Context {
	return ctx
}

func (c *counted) CreateAccount(_ context.Context, id mail.AccountID, _ store.Quota) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail == nil {
		c.has[id] = true
	}
	return c.fail
}

func (c *counted) DeleteAccount(_ context.Context, id mail.AccountID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail == nil {
		delete(c.has, id)
	}
	return c.fail
}

type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newEngine(t failer) engine.Engine {
	t.Helper()
	eng, err := pebble.Open("data", pebble.Options{Now: time.Now, FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return eng
}

func newFixture(t failer, eng engine.Engine) *fixture {
	t.Helper()
	f := &fixture{eng: eng, data: &counted{has: map[mail.AccountID]bool{}}, clock: time.Unix(1_800_000_000, 0)}
	f.opt = Options{
		Rand:            rand.Reader,
		DetailSeparator: "+",
		Argon:           Argon{MemoryKiB: 8, Passes: 1, Lanes: 1},
		PasswordMemory:  64 << 10,
		ScramIterations: 2,
		Now:             f.now,
		Sleep: func(_ context.Context, d time.Duration) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.slept = append(f.slept, d)
			return nil
		},
	}
	f.open(t)
	return f
}

func (f *fixture) open(t failer) {
	t.Helper()
	var err error
	if f.Directory, err = Open(context.Background(), f.eng, f.data, f.opt); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clock
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock = f.clock.Add(d)
}

// setUp returns a fixture with the domains example.org and example.net.
func setUp(t testing.TB) *fixture {
	t.Helper()
	eng := newEngine(t)
	f := newFixture(t, eng)
	t.Cleanup(func() {
		for _, problem := range f.problems(t) {
			t.Error(problem)
		}
		f.Close()
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	f.mustDo(t, f.AddDomain(bg, "example.org"), f.AddDomain(bg, "Example.NET."))
	return f
}

// problems is what Verify finds, and accounts without mailboxes or the reverse.
func (f *fixture) problems(t failer) (all []string) {
	t.Helper()
	live := map[mail.AccountID]bool{}
	err := f.Verify(bg, func(s string) { all = append(all, s) }, func(id mail.AccountID) { live[id] = true })
	if err != nil {
		t.Fatal(err)
	}
	for id := range live {
		if !f.data.has[id] {
			all = append(all, fmt.Sprintf("account %d has no mailboxes", id))
		}
	}
	return all
}

var bg = context.Background()

func (f *fixture) mustDo(t failer, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) add(t failer, addr, password string) Account {
	t.Helper()
	a, err := f.AddAccount(bg, at(addr), password, store.Quota{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// at reads an address of a test; one that cannot be read is a local part.
func at(s string) mail.Address {
	if a, err := mail.ParseAddress(s); err == nil {
		return a
	}
	return mail.Address{Local: s}
}

func list(ss ...string) (all []mail.Address) {
	for _, s := range ss {
		all = append(all, at(s))
	}
	return all
}

func (f *fixture) accounts(t failer, domain string) string {
	t.Helper()
	var names []string
	for a, err := range f.Accounts(bg, domain) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, a.Address.String())
	}
	return strings.Join(names, " ")
}

func wantKind(t failer, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("%s: %v, want kind %v", what, err, kind)
	}
}

func TestDomains(t *testing.T) {
	f := setUp(t)
	wantKind(t, "twice", f.AddDomain(bg, "EXAMPLE.org"), fault.Exists)
	wantKind(t, "bad name", f.AddDomain(bg, "exa mple"), fault.Invalid)
	wantKind(t, "unknown", f.RemoveDomain(bg, "example.com"), fault.NotFound)
	wantKind(t, "catch-all of unknown", f.SetCatchAll(bg, "example.com", at("a@b")), fault.NotFound)
	f.mustDo(t, f.SetCatchAll(bg, "example.org", at("all@elsewhere.test")))
	all, err := f.Domains(bg)
	if err != nil || len(all) != 2 || all[0].Name != "example.net" || all[1].CatchAll != at("all@elsewhere.test") || !all[1].Created.Equal(f.clock) {
		t.Errorf("%+v, %v", all, err)
	}
	for domain, want := range map[string]bool{"example.org": true, "EXAMPLE.ORG": true, "example.com": false, "": false, "org": false, strings.Repeat("x", 3000): false} {
		for range 2 { // from the engine, then from the cache
			if got, err := f.IsLocal(bg, domain); got != want || err != nil {
				t.Errorf("IsLocal(%.20q) = %v, %v", domain, got, err)
			}
		}
	}
	f.add(t, "a@example.net", "")
	wantKind(t, "in use", f.RemoveDomain(bg, "example.net"), fault.Denied)
	f.mustDo(t, f.RemoveAccount(bg, at("a@example.net")), f.RemoveDomain(bg, "example.net"))
	if local, _ := f.IsLocal(bg, "example.net"); local {
		t.Error("a removed domain is local")
	}
}

func TestAccounts(t *testing.T) {
	f := setUp(t)
	alice := f.add(t, "Alice@example.org", "secret")
	bob := f.add(t, "bob@example.net", "")
	if alice.ID == 0 || alice.ID == bob.ID || alice.Address.String() != "Alice@example.org" || !alice.Created.Equal(f.clock) {
		t.Errorf("%+v %+v", alice, bob)
	}
	for _, c := range []struct {
		addr string
		kind fault.Kind
	}{{"aLICE@example.org", fault.Exists}, {"x@example.com", fault.NotFound}, {"x", fault.NotFound}, {"", fault.Invalid}} {
		_, err := f.AddAccount(bg, at(c.addr), "", store.Quota{})
		wantKind(t, c.addr, err, c.kind)
	}
	_, err := f.AddAccount(bg, at("x@example.org"), "bell\x07", store.Quota{})
	wantKind(t, "bad password", err, fault.Invalid)
	for range 2 {
		got, err := f.Lookup(bg, at("ALICE@EXAMPLE.ORG"))
		if err != nil || got != (Account{alice.ID, alice.Address, alice.Created.UTC()}) {
			t.Errorf("%+v, %v", got, err)
		}
		got, err = f.AccountByID(bg, bob.ID)
		if err != nil || got.Address != bob.Address {
			t.Errorf("%+v, %v", got, err)
		}
	}
	_, err = f.Lookup(bg, at("alice+x@example.org"))
	wantKind(t, "detail", err, fault.NotFound)
	f.mustDo(t, f.AddAlias(bg, at("al@example.org"), alice.Address))
	_, err = f.Lookup(bg, at("al@example.org"))
	wantKind(t, "alias", err, fault.NotFound)
	if got := f.accounts(t, ""); got != "bob@example.net Alice@example.org" {
		t.Error(got)
	}
	if got := f.accounts(t, "Example.Org"); got != "Alice@example.org" {
		t.Error(got)
	}
	f.mustDo(t, f.RemoveAccount(bg, at("alice@example.org")))
	wantKind(t, "again", f.RemoveAccount(bg, at("alice@example.org")), fault.NotFound)
	wantKind(t, "alias", f.RemoveAccount(bg, at("al@example.org")), fault.NotFound)
	if _, err := f.Lookup(bg, alice.Address); !fault.Is(err, fault.NotFound) || f.data.has[alice.ID] {
		t.Errorf("removed: %v, mailboxes %v", err, f.data.has[alice.ID])
	}
	if again := f.add(t, "alice@example.org", ""); again.ID == alice.ID {
		t.Error("an id was used twice")
	}
}

func TestAccountsAreListedInPages(t *testing.T) {
	f := setUp(t)
	const n = 2*page + 1
	var want []string
	f.mustDo(t, f.update(bg, func(w engine.Writer) error {
		for i := range n {
			a := mail.Address{Local: fmt.Sprintf("u%05d", i), Domain: "example.org"}
			want = append(want, a.String())
			if err := w.Put(entryKey(a), entry{account: mail.AccountID(i + 1)}.encode()); err != nil {
				return err
			}
			f.data.has[mail.AccountID(i+1)] = true
			rec := &accountRecord{address: a, created: f.clock}
			if err := w.Put(accountKey(mail.AccountID(i+1)), rec.encode()); err != nil {
				return err
			}
		}
		m, err := getMeta(w)
		m.lastID = n
		return errors.Join(err, w.Put(metaKey(), m.encode()))
	}))
	if got := f.accounts(t, ""); got != strings.Join(want, " ") {
		t.Errorf("%d bytes listed, want %d", len(got), len(strings.Join(want, " ")))
	}
	seen := 0
	for range f.Accounts(bg, "") {
		if seen++; seen == page+1 {
			break
		}
	}
	if seen != page+1 {
		t.Error(seen)
	}
}

// Wherever AddAccount stops, nobody sees half an account, and a second call makes it
// whole with the id that the first one took.
func TestAddAccountCutShort(t *testing.T) {
	f := setUp(t)
	addr := at("alice@example.org")
	f.data.fail = fault.New(fault.Unavailable, "disk full")
	_, err := f.AddAccount(bg, addr, "secret", store.Quota{})
	wantKind(t, "cut short", err, fault.Unavailable)
	if _, err := f.Lookup(bg, addr); !fault.Is(err, fault.NotFound) {
		t.Errorf("half an account is seen: %v", err)
	}
	if _, err := f.Resolve(bg, addr); !fault.Is(err, fault.NotFound) {
		t.Errorf("half an account gets mail: %v", err)
	}
	wantKind(t, "domain", f.RemoveDomain(bg, "example.org"), fault.Denied)
	f.data.fail = nil
	f.Close()
	f.open(t)
	first := f.add(t, "alice@example.org", "secret")
	second := f.add(t, "bob@example.org", "secret")
	if second.ID != first.ID+1 {
		t.Errorf("ids %d and %d: one was lost", first.ID, second.ID)
	}
	f.data.fail = fault.New(fault.Unavailable, "disk full")
	_, err = f.AddAccount(bg, at("carol@example.org"), "secret", store.Quota{})
	wantKind(t, "cut short", err, fault.Unavailable)
	f.data.fail = nil
	f.mustDo(t, f.RemoveAccount(bg, at("carol@example.org")))
	wantKind(t, "given up", f.RemoveAccount(bg, at("carol@example.org")), fault.NotFound)
}

func TestRemoveAccountCutShort(t *testing.T) {
	f := setUp(t)
	alice := f.add(t, "alice@example.org", "secret")
	f.data.fail = fault.New(fault.Unavailable, "disk full")
	wantKind(t, "cut short", f.RemoveAccount(bg, alice.Address), fault.Unavailable)
	if _, err := f.Lookup(bg, alice.Address); !fault.Is(err, fault.NotFound) {
		t.Error("still there")
	}
	f.Close()
	f.open(t) // the disk is still full: the directory opens all the same
	if !f.data.has[alice.ID] {
		t.Fatal("the data went although it could not")
	}
	f.data.fail = nil
	f.Close()
	f.open(t)
	if f.data.has[alice.ID] {
		t.Error("the data is still there")
	}
}

// Two directories on one engine, as two processes would have.
func TestChangeFromElsewhereIsSeen(t *testing.T) {
	f := setUp(t)
	other := newFixture(t, f.eng)
	defer other.Close()
	if _, err := other.Lookup(bg, at("alice@example.org")); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	f.add(t, "alice@example.org", "")
	if _, err := other.Resolve(bg, at("alice@example.org")); err != nil {
		t.Fatal(err)
	}
	f.mustDo(t, f.RemoveAccount(bg, at("alice@example.org")))
	for range 5000 { // the other one's tick comes some time later
		if _, err := other.Resolve(bg, at("alice@example.org")); err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("a removed account is still cached")
}

// The usual lookups cost no engine read.
func TestLookupsAreCached(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "secret")
	f.mustDo(t, f.AddAlias(bg, at("team@example.org"), list("alice@example.org", "x@elsewhere.test")...))
	reads := &readCounter{Engine: f.eng}
	f.Directory.eng, f.cache.ticks = reads, nil // no late tick of the changes above
	all := func() {
		for _, a := range list("alice@example.org", "team@example.org", "y@elsewhere.test") {
			if _, err := f.Resolve(bg, a); err != nil {
				t.Fatal(err)
			}
		}
	}
	all()
	before := reads.views
	all()
	if before == 0 || reads.views != before {
		t.Errorf("%d reads at first, %d when repeated", before, reads.views-before)
	}
}

type readCounter struct {
	engine.Engine
	views int
}

func (r *readCounter) View(ctx context.Context, s engine.Shard, fn func(engine.Reader) error) error {
	r.views++
	return r.Engine.View(ctx, s, fn)
}

func TestWithRealStore(t *testing.T) {
	eng := newEngine(t)
	defer eng.Close()
	st, err := store.Open(eng, store.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(bg, eng, st, Options{Now: time.Now, Rand: rand.Reader, Argon: Argon{8, 1, 1}, ScramIterations: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.AddDomain(bg, "example.org"); err != nil {
		t.Fatal(err)
	}
	a, err := d.AddAccount(bg, at("alice@example.org"), "secret", store.Quota{Bytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = st.Account(a.ID).View(bg, func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		for _, b := range boxes {
			names = append(names, b.Name)
		}
		if quota, _ := s.Quota(); quota.Bytes != 1000 {
			t.Errorf("quota %+v", quota)
		}
		return err
	})
	if want := []string{"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v", names, err)
	}
	if err := d.RemoveAccount(bg, a.Address); err != nil {
		t.Fatal(err)
	}
	if ids, err := st.Accounts(bg); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
}

// Random changes against maps: after each, and after opening anew, the directory
// answers as the maps do.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		eng := newEngine(t)
		defer eng.Close()
		f := newFixture(t, eng)
		defer func() { f.Close() }()
		m := &model{domains: map[string]bool{}, accounts: map[string]bool{}, aliases: map[string][]string{}}
		domain := rapid.SampledFrom([]string{"a.test", "b.test"})
		addr := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "local") + "@" + domain.Draw(t, "domain")
		})
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			var got error
			var want fault.Kind
			name, target := addr.Draw(t, "addr"), addr.Draw(t, "target")
			op := rapid.IntRange(0, 6).Draw(t, "op")
			switch op {
			case 0:
				got, want = f.AddDomain(bg, at(name).Domain), m.addDomain(at(name).Domain)
			case 1:
				got, want = f.RemoveDomain(bg, at(name).Domain), m.removeDomain(at(name).Domain)
			case 2:
				_, got = f.AddAccount(bg, at(name), "", store.Quota{})
				want = m.addAccount(name)
			case 3:
				got, want = f.RemoveAccount(bg, at(name)), m.removeAccount(name)
			case 4:
				got, want = f.AddAlias(bg, at(name), at(target)), m.addAlias(name, target)
			case 5:
				got, want = f.RemoveAlias(bg, at(name), at(target)), m.removeAlias(name, target)
			case 6:
				f.Close()
				f.open(t)
			}
			if (got == nil) != (want == fault.Internal) || got != nil && fault.Of(got) != want {
				t.Fatalf("op %d %s %s: %v, want kind %v", op, name, target, got, want)
			}
			m.compare(t, f)
		}
	})
}

// model is the directory as maps.
type model struct {
	domains  map[string]bool
	accounts map[string]bool
	aliases  map[string][]string
}

func (m *model) addDomain(d string) fault.Kind {
	if m.domains[d] {
		return fault.Exists
	}
	m.domains[d] = true
	return fault.Internal
}

func (m *model) removeDomain(d string) fault.Kind {
	if !m.domains[d] {
		return fault.NotFound
	}
	for a := range m.accounts {
		if at(a).Domain == d {
			return fault.Denied
		}
	}
	for a := range m.aliases {
		if at(a).Domain == d {
			return fault.Denied
		}
	}
	delete(m.domains, d)
	return fault.Internal
}

func (m *model) addAccount(a string) fault.Kind {
	switch {
	case !m.domains[at(a).Domain]:
		return fault.NotFound
	case m.accounts[a] || m.aliases[a] != nil:
		return fault.Exists
	}
	m.accounts[a] = true
	return fault.Internal
}

func (m *model) removeAccount(a string) fault.Kind {
	if !m.accounts[a] {
		return fault.NotFound
	}
	delete(m.accounts, a)
	return fault.Internal
}

func (m *model) addAlias(a, target string) fault.Kind {
	switch {
	case a == target:
		return fault.Invalid
	case !m.domains[at(a).Domain]:
		return fault.NotFound
	case m.accounts[a]:
		return fault.Exists
	}
	if !slices.Contains(m.aliases[a], target) {
		m.aliases[a] = append(m.aliases[a], target)
	}
	return fault.Internal
}

func (m *model) removeAlias(a, target string) fault.Kind {
	i := slices.Index(m.aliases[a], target)
	if i < 0 {
		return fault.NotFound
	}
	m.aliases[a] = slices.Delete(slices.Clone(m.aliases[a]), i, i+1)
	if len(m.aliases[a]) == 0 {
		delete(m.aliases, a)
	}
	return fault.Internal
}

func (m *model) compare(t *rapid.T, f *fixture) {
	if problems := f.problems(t); len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(f.data.has) != len(m.accounts) {
		t.Fatalf("%d accounts have mailboxes, want %d", len(f.data.has), len(m.accounts))
	}
	for a := range m.accounts {
		if _, err := f.Lookup(bg, at(a)); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
	}
	if got := f.accounts(t, ""); len(strings.Fields(got)) != len(m.accounts) {
		t.Fatalf("listed %s, want %v", got, m.accounts)
	}
	aliases := 0
	for a, err := range f.Aliases(bg, "") {
		aliases++
		if want := m.aliases[a.Address.String()]; err != nil || !slices.Equal(a.Targets, list(want...)) {
			t.Fatalf("%v, %v; want %v", a, err, want)
		}
	}
	if aliases != len(m.aliases) {
		t.Fatalf("%d aliases, want %d", aliases, len(m.aliases))
	}
	for _, d := range []string{"a.test", "b.test"} {
		if local, err := f.IsLocal(bg, d); err != nil || local != m.domains[d] {
			t.Fatalf("IsLocal(%s) = %v, %v", d, local, err)
		}
	}
}
