package store

import (
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// kept checks the deleted mail of an account: each message knows where it lay, in a mailbox
// that is there or of which the name is known, and nothing else is said to be kept.
func (v *verifier) kept(live map[mail.MailboxID]bool) {
	there := v.keptThere(live)
	if origins := v.keptOrigins(live, there); origins != len(there) {
		v.problem(0, "%d deleted messages are kept, and it is known of %d where they lay", len(there), origins)
	}
	v.keptOnce()
	for family, kind := range map[byte]byte{famDraft: recDraft, famLost: recLost} {
		err := v.snap.r.Scan([]byte{family}, []byte{family + 1}, false, func(k, val []byte) bool {
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

// keptThere returns which messages are kept.
func (v *verifier) keptThere(live map[mail.MailboxID]bool) map[mail.UID]bool {
	there := map[mail.UID]bool{}
	kept := v.snap.acct.kept
	if kept == 0 {
		return there
	}
	if !live[kept] {
		v.problem(0, "the mailbox of deleted mail is not there")
	}
	err := v.snap.eachKeptPage(func(number uint64, p *page) bool {
		for word := p.present; word != 0; word &= word - 1 {
			there[lowestUID(number, word)] = true
		}
		return true
	})
	if err != nil {
		v.problem(0, "deleted mail: %s", fault.Say(err))
	}
	return there
}

// keptOrigins checks what is said of where messages lay, and returns of how many it is.
func (v *verifier) keptOrigins(live map[mail.MailboxID]bool, there map[mail.UID]bool) (origins int) {
	err := v.snap.r.Scan([]byte{famOrigin}, []byte{famOrigin + 1}, false, func(k, val []byte) bool {
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
	return origins
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
