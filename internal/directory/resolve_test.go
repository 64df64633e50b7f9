package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// text writes a resolution as "alice@a +detail bob@b > x@elsewhere ! dead@a".
func (r Resolution) text() string {
	var words []string
	for _, t := range r.Accounts {
		words = append(words, t.Address.String())
		if t.Detail != "" {
			words = append(words, "+"+t.Detail)
		}
	}
	for i, sign := range []string{">", "!"} {
		for _, a := range [][]mail.Address{r.Remote, r.Dead}[i] {
			words = append(words, sign, a.String())
		}
	}
	return strings.Join(words, " ")
}

func TestResolve(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "")
	f.add(t, "Bob@example.org", "")
	f.add(t, "carol@example.net", "")
	f.add(t, "a+b@example.org", "")
	for from, to := range map[string][]mail.Address{
		"team@example.org":       list("bob@example.org", "carol@example.net", "Dave@elsewhere.test"),
		"everybody@example.org":  list("team@example.org", "alice@example.org", "BOB@example.org"),
		"loop1@example.org":      list("loop2@example.org"),
		"loop2@example.org":      list("loop1@example.org"),
		"loop3@example.org":      list("loop1@example.org", "loop3@example.net"),
		"loop3@example.net":      list("loop3@example.org", "carol@example.net"),
		"gone@example.org":       list("nobody@example.org"),
		"half@example.org":       list("nobody@example.org", "alice+work@example.org"),
		"out@example.org":        list("x@elsewhere.test", "X@elsewhere.test"),
		"postmaster@example.net": list("carol@example.net"),
	} {
		f.mustDo(t, f.AddAlias(bg, at(from), to...))
	}
	const none = ""
	for _, c := range []struct{ rcpt, want string }{
		{"alice@example.org", "alice@example.org"},
		{"ALICE@Example.ORG", "alice@example.org"},
		{"bob+lists+x@example.org", "Bob@example.org +lists+x"},
		{"a+b@example.org", "a+b@example.org"},
		{"a+c@example.org", none},
		{"+@example.org", none},
		{"x@elsewhere.test", "> x@elsewhere.test"},
		{"team@example.org", "Bob@example.org carol@example.net > Dave@elsewhere.test"},
		{"team+q@example.org", "Bob@example.org carol@example.net > Dave@elsewhere.test"},
		{"everybody@example.org", "alice@example.org Bob@example.org carol@example.net > Dave@elsewhere.test"},
		{"loop1@example.org", none},
		{"loop3@example.org", "carol@example.net"},
		{"gone@example.org", none},
		{"half@example.org", "alice@example.org +work ! nobody@example.org"},
		{"out@example.org", "> x@elsewhere.test"},
		{"nobody@example.org", none},
		{"nobody", none},
		{"postmaster", "alice@example.org"},
		{"PostMaster@example.org", "alice@example.org"},
		{"postmaster@example.net", "carol@example.net"},
		{"postmaster@elsewhere.test", "> postmaster@elsewhere.test"},
		{"postmaster+x@example.org", none},
	} {
		for range 2 {
			got, err := f.Resolve(bg, at(c.rcpt))
			if got.text() != c.want || (c.want == none) != fault.Is(err, fault.NotFound) || err != nil && c.want != none {
				t.Errorf("%s: %q, %v; want %q", c.rcpt, got.text(), err, c.want)
			}
		}
	}
}

func TestCatchAllAndPostmaster(t *testing.T) {
	f := setUp(t)
	_, err := f.Resolve(bg, at("postmaster"))
	wantKind(t, "no account at all", err, fault.NotFound)
	f.add(t, "alice@example.org", "")
	f.add(t, "bob@example.org", "")
	f.mustDo(t,
		f.SetCatchAll(bg, "example.org", at("bob@example.org")),
		f.SetCatchAll(bg, "example.net", at("away@elsewhere.test")))
	check := func(rcpt, want string) {
		t.Helper()
		if got, err := f.Resolve(bg, at(rcpt)); err != nil || got.text() != want {
			t.Errorf("%s: %q, %v; want %q", rcpt, got.text(), err, want)
		}
	}
	check("anybody@example.org", "bob@example.org")
	check("alice@example.org", "alice@example.org")
	check("anybody@example.net", "> away@elsewhere.test")
	check("postmaster@example.org", "bob@example.org")
	check("postmaster", "alice@example.org")

	// A postmaster whose alias leads nowhere still reaches somebody.
	f.mustDo(t, f.AddAlias(bg, at("postmaster@example.org"), at("x@example.org")), f.SetCatchAll(bg, "example.org", mail.Address{}))
	check("postmaster@example.org", "alice@example.org ! x@example.org")
	f.mustDo(t, f.RemoveAlias(bg, at("postmaster@example.org")), f.SetCatchAll(bg, "example.net", mail.Address{}))

	f.opt.Postmaster = at("bob@example.org")
	f.Close()
	f.open(t)
	check("postmaster", "bob@example.org")
	check("postmaster@example.net", "bob@example.org")
	_, err = f.Resolve(bg, at("anybody@example.org"))
	wantKind(t, "catch-all taken away", err, fault.NotFound)
}

func TestExpansionIsBounded(t *testing.T) {
	f := setUp(t)
	name := func(i int) mail.Address { return mail.Address{Local: fmt.Sprintf("n%d", i), Domain: "example.org"} }
	f.add(t, "end@example.org", "")
	for i := range MaxDepth + 5 {
		f.mustDo(t, f.AddAlias(bg, name(i), name(i+1)))
	}
	f.mustDo(t, f.AddAlias(bg, name(MaxDepth+5), at("end@example.org")))
	_, err := f.Resolve(bg, name(0))
	wantKind(t, "too deep", err, fault.TooLarge)
	if r, err := f.Resolve(bg, name(10)); err != nil || r.text() != "end@example.org" {
		t.Errorf("%q, %v", r.text(), err)
	}
	var many []mail.Address
	for i := range MaxTargets {
		many = append(many, mail.Address{Local: fmt.Sprintf("m%d", i), Domain: "elsewhere.test"})
	}
	f.mustDo(t, f.AddAlias(bg, at("m1@example.org"), many...))
	wantKind(t, "one more target", f.AddAlias(bg, at("m1@example.org"), at("x@elsewhere.test")), fault.TooLarge)
	if r, err := f.Resolve(bg, at("m1@example.org")); err != nil || len(r.Remote) != MaxTargets {
		t.Errorf("%d, %v", len(r.Remote), err)
	}
	for i := range many {
		many[i].Domain = "other.test"
	}
	f.mustDo(t, f.AddAlias(bg, at("m2@example.org"), many...), f.AddAlias(bg, at("m@example.org"), list("m1@example.org", "m2@example.org")...))
	_, err = f.Resolve(bg, at("m@example.org"))
	wantKind(t, "too many", err, fault.TooLarge)
}

func TestAliasFaults(t *testing.T) {
	f := setUp(t)
	f.add(t, "alice@example.org", "")
	wantKind(t, "account", f.AddAlias(bg, at("alice@example.org"), at("x@y")), fault.Exists)
	wantKind(t, "domain", f.AddAlias(bg, at("a@example.com"), at("x@y")), fault.NotFound)
	wantKind(t, "itself", f.AddAlias(bg, at("a@example.org"), at("A@example.org")), fault.Invalid)
	wantKind(t, "no target", f.AddAlias(bg, at("a@example.org")), fault.Invalid)
	wantKind(t, "bare target", f.AddAlias(bg, at("a@example.org"), at("x")), fault.Invalid)
	f.mustDo(t, f.AddAlias(bg, at("a@example.org"), list("x@y", "X@y", "z@y")...))
	wantKind(t, "target", f.RemoveAlias(bg, at("a@example.org"), at("q@y")), fault.NotFound)
	wantKind(t, "alias", f.RemoveAlias(bg, at("b@example.org")), fault.NotFound)
	wantKind(t, "account", f.RemoveAlias(bg, at("alice@example.org")), fault.NotFound)
	f.mustDo(t, f.RemoveAlias(bg, at("a@example.org"), at("x@y")))
	for a, err := range f.Aliases(bg, "example.org") {
		if err != nil || a.Address != at("a@example.org") || !slices.Equal(a.Targets, list("z@y")) {
			t.Errorf("%+v, %v", a, err)
		}
	}
	f.mustDo(t, f.RemoveAlias(bg, at("A@example.org")))
	for a := range f.Aliases(bg, "") {
		t.Errorf("%+v is left", a)
	}
}

func TestMaySend(t *testing.T) {
	f := setUp(t)
	alice, bob := f.add(t, "alice@example.org", ""), f.add(t, "bob@example.org", "")
	f.mustDo(t,
		f.AddAlias(bg, at("team@example.org"), alice.Address, at("x@elsewhere.test")),
		f.SetCatchAll(bg, "example.net", alice.Address))
	for _, c := range []struct {
		who  Account
		from string
		may  bool
	}{
		{alice, "alice@example.org", true}, {alice, "Alice+shop@EXAMPLE.org", true}, {alice, "team@example.org", true},
		{alice, "whatever@example.net", true}, {alice, "bob@example.org", false}, {alice, "alice@elsewhere.test", false},
		{alice, "nobody@example.org", false}, {bob, "team@example.org", false}, {bob, "", true}, {bob, "bob@example.org", true},
	} {
		err := f.MaySend(bg, c.who.ID, at(c.from))
		if c.may != (err == nil) || !c.may && !fault.Is(err, fault.Denied) {
			t.Errorf("%s as %q: %v", c.who.Address, c.from, err)
		}
	}
}

// Random graphs of aliases, loops and all: what is reached is what a search of the
// graph reaches.
func TestResolveAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		eng := newEngine(t)
		defer eng.Close()
		f := newFixture(t, eng)
		defer f.Close()
		f.mustDo(t, f.AddDomain(bg, "a.test"))
		node := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "n") + rapid.SampledFrom([]string{"@a.test", "@a.test", "@far.test"}).Draw(t, "d")
		})
		edges := map[string][]string{}
		isAccount := map[string]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "edges") {
			from, to := node.Draw(t, "from"), node.Draw(t, "to")
			if f.AddAlias(bg, at(from), at(to)) == nil {
				edges[from] = append(edges[from], to)
			}
		}
		for _, n := range []string{"a@a.test", "b@a.test", "c@a.test"} {
			if len(edges[n]) == 0 && rapid.Bool().Draw(t, n) {
				f.add(t, n, "")
				isAccount[n] = true
			}
		}
		start := node.Draw(t, "start")
		accounts, remote := map[string]bool{}, map[string]bool{}
		reach(start, edges, isAccount, map[string]bool{}, accounts, remote)
		got, err := f.Resolve(bg, at(start))
		if len(accounts)+len(remote) == 0 {
			wantKind(t, start, err, fault.NotFound)
			return
		}
		if err != nil || len(got.Accounts) != len(accounts) || len(got.Remote) != len(remote) {
			t.Fatalf("%s: %q, %v; want %v %v", start, got.text(), err, accounts, remote)
		}
		for _, a := range got.Accounts {
			if !accounts[a.Address.String()] {
				t.Fatalf("%s: %v is too much", start, a)
			}
		}
		for _, a := range got.Remote {
			if !remote[a.String()] {
				t.Fatalf("%s: %v is too much", start, a)
			}
		}
	})
}

func reach(n string, edges map[string][]string, isAccount, seen, accounts, remote map[string]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	switch {
	case strings.HasSuffix(n, "@far.test"):
		remote[n] = true
	case isAccount[n]:
		accounts[n] = true
	}
	for _, to := range edges[n] {
		reach(to, edges, isAccount, seen, accounts, remote)
	}
}
