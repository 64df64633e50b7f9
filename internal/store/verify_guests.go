package store

import (
	"maps"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// seenBy is a guest of a mailbox.
type seenBy struct {
	box   mail.MailboxID
	guest mail.AccountID
}

// guests checks what is kept of the guests of the account's mailboxes: each bit of a
// message that is there, all together as many as are counted.
func (v *verifier) guests(boxes []Mailbox) error {
	counted, guests, err := v.guestsCounted()
	if err != nil {
		return err
	}
	found, err := v.guestsFound()
	if err != nil {
		return err
	}
	if !maps.Equal(found, counted) {
		v.problem(0, "guests have seen %v and it is counted as %v", found, counted)
	}
	byID := map[mail.MailboxID]Mailbox{}
	for _, m := range boxes {
		byID[m.ID] = m
	}
	for id, n := range guests {
		if m, ok := byID[id]; !ok || m.guests != n {
			v.problem(0, "mailbox %d counts %d guests and has %d", id, m.guests, n)
		}
	}
	for _, m := range boxes {
		if m.guests != 0 && guests[m.ID] == 0 {
			v.problem(0, "mailbox %d counts %d guests and has none", m.ID, m.guests)
		}
	}
	return nil
}

// guestsCounted reads how many messages each guest is said to have seen, and how many guests
// each mailbox has by that.
func (v *verifier) guestsCounted() (counted map[seenBy]int, guests map[mail.MailboxID]uint32, err error) {
	counted, guests = map[seenBy]int{}, map[mail.MailboxID]uint32{}
	err = v.snap.r.Scan([]byte{famGuest}, []byte{famGuest + 1}, false, func(k, _ []byte) bool {
		id := seenBy{mail.MailboxID(keyNum(k, 0)), mail.AccountID(keyNum(k, 1))}
		n, _, err := v.snap.seenCount(id.box, id.guest)
		if err != nil {
			v.problem(0, "record %x: %s", k, fault.Say(err))
		}
		counted[id] = int(n)
		guests[id.box]++
		return true
	})
	return counted, guests, err
}

// guestsFound counts the bits of each guest, and checks that each is of a message that is there.
func (v *verifier) guestsFound() (map[seenBy]int, error) {
	found := map[seenBy]int{}
	err := v.snap.r.Scan([]byte{famSeen}, []byte{famSeen + 1}, false, func(k, val []byte) bool {
		id := seenBy{mail.MailboxID(keyNum(k, 0)), mail.AccountID(keyNum(k, 2))}
		c, err := decodeSeen(val)
		if err != nil {
			v.problem(0, "record %x: %s", k, fault.Say(err))
			return true
		}
		found[id] += c.count()
		for i, w := range c {
			number := keyNum(k, 1)*chunkPages + uint64(i)
			if w == 0 {
				continue
			}
			p, err := v.snap.page(id.box, number)
			if err != nil || p == nil || w&^p.present != 0 {
				v.problem(lowestUID(number, w), "guest %d of mailbox %d has seen a message that is not there", id.guest, id.box)
			}
		}
		return true
	})
	return found, err
}
