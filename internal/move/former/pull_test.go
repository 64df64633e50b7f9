package former

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// shelf is an account that keeps a state, and takes no mail.
type shelf struct {
	move.Target
	mu    sync.Mutex
	state []byte
}

func (s *shelf) State(context.Context, move.Box) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, nil
}

func (s *shelf) SetState(_ context.Context, b move.Box, state []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	return nil
}

// now is what is kept.
func (s *shelf) now(t *testing.T) (p progress) {
	t.Helper()
	if b, _ := s.State(context.Background(), progressBox); b != nil {
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

var errNoTime = errors.New("there is no time")

// fetching returns servers that fetch into the shelf. Logins at o fail, so that nothing is
// fetched, but it is seen who is asked.
func fetchingInto(o *old, to *shelf, link func(context.Context, directory.Account, Server, string, string) error) *Servers {
	opt := o.servers(1).opt
	opt.Fetching = &Fetching{
		Targets: func(mail.AccountID) move.Target { return to }, Places: 1, Link: link,
		Spool: move.Options{Now: opt.Now, Wait: func(context.Context, time.Duration) error { return errNoTime }},
	}
	return New(context.Background(), opt)
}

// The password of an account is told to a former server only if the account has come from
// there by a first login, and no more than is of use.
func TestAttackPasswordForOthers(t *testing.T) {
	o := newOld(t, func(string, string) string { return "NO [UNAVAILABLE] not now" })
	account := directory.Account{ID: 7, Address: mail.Address{Local: "anna", Domain: "new.example"}}
	at := o.at()
	at.Mail = true
	with := directory.Typed{Password: "Veilchen", Version: 3}
	other := func(state string, version *uint64) []byte {
		b, _ := json.Marshal(progress{Server: at.Server, User: "anna", State: state, Last: o.now.Add(-again), Version: version})
		return b
	}
	kept := func(state string, age time.Duration, server, user string) []byte {
		b, _ := json.Marshal(progress{Server: server, User: user, State: state, Last: o.now.Add(-age), Version: &with.Version})
		return b
	}
	for _, c := range []struct {
		about string
		state []byte
		first bool
		mail  bool
		asked bool
	}{
		{"never there", nil, false, true, false},
		{"a first login", nil, true, true, true},
		{"a first login, without mail", nil, true, false, false},
		{"cut short", kept(fetching, 0, at.Server, "anna"), false, true, true},
		{"fetched lately", kept(fetched, time.Minute, at.Server, "anna"), false, true, false},
		{"fetched a while ago", kept(fetched, again, at.Server, "anna"), false, true, true},
		{"fetched in the future", kept(fetched, -time.Hour, at.Server, "anna"), false, true, true},
		{"refused", kept(refused, time.Hour, at.Server, "anna"), false, true, false},
		{"refused, and it arrives now with another password", other(refused, new(uint64)), true, true, true},
		{"refused, and it is another password, made here", other(refused, new(uint64)), false, true, false},
		{"a link does it", kept(linked, time.Hour, at.Server, "anna"), false, true, false},
		{"of another server", kept(fetching, 0, "imaps://other.example", "anna"), false, true, false},
		{"of another user", kept(fetching, 0, at.Server, "bert"), false, true, false},
		{"another password arrived", other(fetched, new(uint64)), false, true, false},
		{"another password arrived, and it is cut short", other(fetching, new(uint64)), false, true, false},
		{"which one arrived is not known", other(fetching, nil), false, true, false},
		{"and arrives now", other(fetching, nil), true, true, true},
		{"damaged", []byte("{"), false, true, false},
	} {
		to := &shelf{state: c.state}
		s := fetchingInto(o, to, nil)
		at.Mail = c.mail
		was := o.dialed
		if c.first {
			s.Arrived(account, at, "anna", with)
		} else {
			s.Present(account, at, "anna", with)
		}
		s.fetch.all.Wait()
		if asked := o.dialed > was; asked != c.asked {
			t.Errorf("%s: asked %v, want %v", c.about, asked, c.asked)
		}
		if c.asked && to.now(t).State == "" {
			t.Errorf("%s: it is not kept that there is something to be done", c.about)
		}
		if slices.Contains([]byte(fmt.Sprint(string(to.state))), 'V') {
			t.Errorf("%s: the password is kept: %s", c.about, to.state)
		}
		s.Close()
	}
}

// A password that is refused later is not tried again and again: others are locked out that way.
func TestRefusedPasswordIsNotTriedAgain(t *testing.T) {
	o := newOld(t, func(string, string) string { return "NO [AUTHENTICATIONFAILED] no" })
	to := &shelf{}
	s := fetchingInto(o, to, nil)
	at := o.at()
	at.Mail = true
	s.Arrived(directory.Account{ID: 7}, at, "anna", directory.Typed{Password: "Veilchen"})
	s.fetch.all.Wait()
	if p := to.now(t); p.State != refused {
		t.Errorf("%+v", p)
	}
	was := o.dialed
	o.now = o.now.Add(time.Hour)
	s.Present(directory.Account{ID: 7}, at, "anna", directory.Typed{Password: "Veilchen"})
	s.fetch.all.Wait()
	if o.dialed != was || was == 0 {
		t.Errorf("asked %d times more", o.dialed-was)
	}
}

// A defect while one account is fetched harms no other, and not the server.
func TestDefectWhileFetching(t *testing.T) {
	o := newOld(t, func(string, string) string { return "NO [UNAVAILABLE] not now" })
	to := &shelf{}
	s := fetchingInto(o, to, nil)
	defer s.Close()
	targets := s.fetch.Targets
	s.fetch.Targets = func(id mail.AccountID) move.Target {
		if id == 7 {
			panic("a defect")
		}
		return targets(id)
	}
	at := o.at()
	at.Mail = true
	for _, id := range []mail.AccountID{7, 8, 7} {
		s.Arrived(directory.Account{ID: id}, at, "anna", directory.Typed{Password: "Veilchen"})
		s.fetch.all.Wait()
	}
	if to.now(t).State != fetching || len(s.fetch.going) != 0 || o.dialed == 0 {
		t.Errorf("%+v, %v are left", to.now(t), s.fetch.going)
	}
}

// Where the domain wants a link, one is made, once.
func TestArrivalIsLinked(t *testing.T) {
	o := newOld(t, func(string, string) string { return "OK" })
	to := &shelf{}
	var made []string
	s := fetchingInto(o, to, func(_ context.Context, a directory.Account, at Server, user, password string) error {
		made = append(made, fmt.Sprintf("%d %s %s %s", a.ID, at.Host, user, password))
		return nil
	})
	at := o.at()
	at.Mail, at.Link = true, true
	for range 2 {
		s.Arrived(directory.Account{ID: 7}, at, "anna", directory.Typed{Password: "Veilchen"})
		s.fetch.all.Wait()
	}
	if p := to.now(t); p.State != linked || len(made) != 1 || made[0] != "7 127.0.0.1 anna Veilchen" || o.dialed != 0 {
		t.Errorf("%+v, %q, asked %d times", p, made, o.dialed)
	}
}
