package store

import (
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// kept checks the deleted mail of an account: each message knows where it lay, in a mailbox
// that is there or of which the name is known, and nothing else is said to be kept.
func (v *verifier) kept(live map[mail.MailboxID]bool) {
	s := v.snap
	there := map[mail.UID]bool{}
	if s.acct.kept != 0 {
		if !live[s.acct.kept] {
			v.problem(0, "the mailbox of deleted mail is not there")
		}
		err := s.eachKeptPage(func(number uint64, p *page) bool {
			for word := p.present; word != 0; word &= word - 1 {
				there[lowestUID(number, word)] = true
			}
			return true
		})
		if err != nil {
			v.problem(0, "deleted mail: %s", fault.Say(err))
		}
	}
	origins := 0
	err := s.r.Scan([]byte{famOrigin}, []byte{famOrigin + 1}, false, func(k, val []byte) bool {
		uid := mail.UID(keyNum(k, 0))
		at, err := decodeOrigin(val)
		if err != nil {
			v.problem(uid, "record %x: %s", k, fault.Say(err))
			return true
		}
		origins++
		if !there[uid] {
			v.problem(uid, "a message that is not there is said to have been deleted")
		}
		if !live[at.box] && !v.isLost(at.box) {
			v.problem(uid, "nothing is known of mailbox %d, from which a message was deleted", at.box)
		}
		return true
	})
	if err != nil {
		v.problem(0, "deleted mail: %s", fault.Say(err))
	}
	if origins != len(there) {
		v.problem(0, "%d deleted messages are kept, and it is known of %d where they lay", len(there), origins)
	}
	v.keptOnce()
	for family, kind := range map[byte]byte{famDraft: recDraft, famLost: recLost} {
		err := s.r.Scan([]byte{family}, []byte{family + 1}, false, func(k, val []byte) bool {
			if _, err := unseal(kind, val); err != nil {
				v.problem(0, "record %x: %s", k, fault.Say(err))
			}
			return true
		})
		if err != nil {
			v.problem(0, "deleted mail: %s", fault.Say(err))
		}
	}
}

func (v *verifier) isLost(id mail.MailboxID) bool {
	_, ok, err := v.snap.r.Get(engine.Key(famLost, uint64(id)))
	return err == nil && ok
}

// keptOnce checks that no message is kept twice.
func (v *verifier) keptOnce() {
	for id, places := range v.seen {
		n := 0
		for _, p := range places {
			if p.box == v.snap.acct.kept {
				n++
			}
		}
		if n > 1 {
			v.problem(0, "message %d is kept %d times", id, n)
		}
	}
}
