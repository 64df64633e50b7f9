package directory

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// deliverTo puts a message into an account's INBOX.
func (m *member) deliverTo(t *testing.T, id mail.AccountID) {
	t.Helper()
	p, err := m.store.Receive(bg, strings.NewReader("Subject: for one alone\r\n\r\nsecret\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = m.store.Account(id).Update(bg, func(tx *store.Tx) error {
		box, err := tx.Mailbox("INBOX")
		if err == nil {
			_, err = tx.Append(box.ID, store.NewMessage{Parcel: p})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// messages returns how many an account has in its INBOX.
func (m *member) messages(t *testing.T, id mail.AccountID) (n int) {
	t.Helper()
	err := m.store.Account(id).View(bg, func(s *store.Snapshot) error {
		box, err := s.Mailbox("INBOX")
		n = int(box.Messages)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// aliceIsLost has the directory lose that there is an account, whose mail is in another database
// and stays.
func aliceIsLost(t *testing.T) (a, b *member, id mail.AccountID) {
	t.Helper()
	a, b = members(t)
	before, err := enginetest.RecordsOf(bg, a.node, shard)
	if err != nil {
		t.Fatal(err)
	}
	id = addAlice(t, a)
	a.deliverTo(t, id)
	if err := before.SetBack(bg, b.node, shard); err != nil {
		t.Fatal(err)
	}
	a.cache.clear()
	b.cache.clear()
	return a, b, id
}

// An id of which the directory has lost that it gave it is given to nobody else: the account that
// had it has its mail there.
func TestLostIDIsNotGivenAgain(t *testing.T) {
	_, b, lost := aliceIsLost(t)
	made, err := b.AddAccount(bg, bob, "other", store.Quota{})
	if err != nil {
		t.Fatal(err)
	}
	if n := b.messages(t, made.ID); n != 0 || made.ID == lost {
		t.Errorf("bob has the id %d, which alice had (%d), and %d messages of hers", made.ID, lost, n)
	}
	if n := b.messages(t, lost); n != 1 {
		t.Errorf("%d messages of alice are left", n)
	}
	if made.ID <= lost+departIDs {
		t.Errorf("bob has the id %d: others that were lost may be given again", made.ID)
	}
}

// The same where an account comes back from a backup under another id.
func TestLostIDIsNotGivenToWhoComesBack(t *testing.T) {
	_, b, lost := aliceIsLost(t)
	other, _ := members(t)
	if _, err := other.AddAccount(bg, bob, "other", store.Quota{}); err != nil {
		t.Fatal(err)
	}
	made, err := b.Adopt(bg, other.Directory, bob, func(ctx context.Context, _, id mail.AccountID, same bool) error {
		if same {
			return errors.New("it comes back as it was")
		}
		return b.store.CreateAccount(ctx, id, store.Quota{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.ID == lost || b.messages(t, made.ID) != 0 || b.messages(t, lost) != 1 {
		t.Errorf("bob came back with the id %d, which alice had (%d)", made.ID, lost)
	}
}

// An account in the making that got the id of a lost one is removed without the mail of that.
func TestRemovalLeavesWhatIsAnothers(t *testing.T) {
	for _, cutShort := range []bool{false, true} {
		_, b, lost := aliceIsLost(t)
		if m, err := b.reserve(bg, bob, making{}); err != nil || m.id != lost {
			t.Fatalf("bob is to have the id %d: %v; nothing is tried", m.id, err)
		}
		if cutShort {
			away := errors.New("cut short")
			data := b.data
			b.data = &counted{fail: away}
			if err := b.RemoveAccount(bg, bob); !errors.Is(err, away) {
				t.Fatal(err)
			}
			b.data = data
			if err := b.finishRemovals(bg); err != nil {
				t.Fatal(err)
			}
		} else if err := b.RemoveAccount(bg, bob); err != nil {
			t.Fatal(err)
		}
		if n := b.messages(t, lost); n != 1 {
			t.Errorf("cut short %v: %d messages of alice are left", cutShort, n)
		}
	}
}

// What nodes were making is made and removed by a process that has the store alone, too, as after it
// was copied.
func TestMakingAlone(t *testing.T) {
	for _, removed := range []bool{false, true} {
		a, _ := members(t)
		m, err := a.reserve(bg, alice, making{})
		if err == nil {
			err = a.data.CreateAccount(a.filling(bg, alice, m), m.id, store.Quota{})
		}
		eng := newEngine(t)
		for _, sh := range []engine.Shard{shard, store.ShardOf(m.id)} {
			all, failed := enginetest.RecordsOf(bg, a.node, sh)
			if err = errors.Join(err, failed); err == nil {
				err = all.SetBack(bg, eng, sh)
			}
		}
		if err != nil || m.birth == 0 {
			t.Fatal(m, err)
		}
		st, alone := serving(t, eng)
		defer st.Close()
		defer alone.Close()
		if !removed {
			if made, err := alone.AddAccount(bg, alice, "", store.Quota{}); err != nil || made.ID != m.id {
				t.Errorf("the account has the id %d, it was to have %d: %v", made.ID, m.id, err)
			}
		} else if err := alone.RemoveAccount(bg, alice); err != nil {
			t.Error(err)
		}
		if there, err := st.Holds(bg, m.id); err != nil || there == removed {
			t.Errorf("removed %v: there is data: %v, %v", removed, there, err)
		}
	}
}

// Whoever makes an account again, after a call of which the outcome is unknown, makes the same.
func TestMakingGoesOnWithItsOwn(t *testing.T) {
	a, _ := members(t)
	m, err := a.reserve(bg, alice, making{})
	if err == nil {
		err = a.data.CreateAccount(a.filling(bg, alice, m), m.id, store.Quota{})
	}
	if err != nil || m.birth == 0 {
		t.Fatal(m, err)
	}
	a.deliverTo(t, m.id)
	if made := addAlice(t, a); made != m.id || a.messages(t, made) != 1 {
		t.Errorf("the account has the id %d, it was to have %d", made, m.id)
	}
}

// As long as a node of an earlier version may read the records they have no births.
func TestBirthsWait(t *testing.T) {
	a, _ := members(t)
	form := uint64(1)
	a.opt.Format = func() uint64 { return form }
	if m, err := a.reserve(bg, alice, making{}); err != nil || m.birth != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	form = birthForm
	if m, err := a.reserve(bg, bob, making{}); err != nil || m.birth == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if err := a.RemoveAccount(bg, at("nobody@example.org")); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// What is on record of an account in the making, and of its removal, is no damage.
func TestMakingIsWhole(t *testing.T) {
	a, _ := members(t)
	m, err := a.reserve(bg, alice, making{})
	if err != nil {
		t.Fatal(err)
	}
	whole := func() {
		t.Helper()
		if err := a.Verify(bg, func(problem string) { t.Error(problem) }, func(mail.AccountID) {}); err != nil {
			t.Error(err)
		}
		if err := Repair(bg, a.node, nil, nil, a.opt.Now(), func(m Mended) { t.Error(m.What) }); err != nil {
			t.Error(err)
		}
		if all, err := a.Claims(bg); err != nil || !all[m.id] {
			t.Errorf("%v are claimed: %v", all, err)
		}
	}
	whole()
	a.data = &counted{fail: errors.New("cut short")}
	_ = a.RemoveAccount(bg, alice)
	whole()
}
