package store

import (
	"bytes"
	"math/bits"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// survey is what the records of an account say of each other, read without trust in any.
type survey struct {
	now     int64
	account bool // its record is whole
	acct    accountRecord
	boxes   map[mail.MailboxID]Mailbox // whole ones
	broken  map[mail.MailboxID]bool
	names   map[mail.MailboxID]string
	doomed  map[mail.MailboxID]bool
	mail    map[mail.MailboxID]*boxSurvey
	origins []place // UID in the mailbox of deleted mail stands for both
	kept    []mail.UID
	lost    map[mail.MailboxID]bool // what is known of deleted mailboxes
	highest mail.ModSeq
	message mail.MessageID
	mailbox mail.MailboxID

	undoom, relost [][]byte // damaged records of these families
}

// boxSurvey is what pages and marks say of a mailbox.
type boxSurvey struct {
	pages   map[uint64]uint64 // which UIDs there are, by page
	noPage  map[uint64]bool   // damaged
	marks   map[uint64]sheetWords
	noMarks map[uint64]bool
	whole   map[uint64]*wholePage
	top     mail.UID
	keyword int // one more than the highest
}

func (s *survey) of(box mail.MailboxID) *boxSurvey {
	s.mailbox = max(s.mailbox, box)
	b := s.mail[box]
	if b == nil {
		b = &boxSurvey{pages: map[uint64]uint64{}, noPage: map[uint64]bool{}, marks: map[uint64]sheetWords{}, noMarks: map[uint64]bool{}, whole: map[uint64]*wholePage{}}
		s.mail[box] = b
	}
	return b
}

// counted is how many messages the account has by its counts, without deleted ones that are
// kept.
func (s *survey) counted() (n int64) {
	for id, m := range s.boxes {
		if id != s.acct.kept {
			n += int64(m.Messages)
		}
	}
	return max(n, s.acct.usage.Messages)
}

func (s *survey) read(w engine.Writer) (any bool, err error) {
	err = w.Scan(nil, nil, false, func(k, v []byte) bool {
		any = true
		s.one(k, v)
		return true
	})
	return any, err
}

// one takes note of one record.
func (s *survey) one(k, v []byte) {
	switch k[0] {
	case famAccount:
		a, err := decodeAccount(v)
		s.acct, s.account = a, err == nil
		s.highest = max(s.highest, a.modSeq)
	case famMailbox:
		s.box(mail.MailboxID(keyNum(k, 0)), v)
	case famName:
		s.name(k, v)
	case famPage, famMarks:
		s.rows(k, v)
	case famDoomed, famLost:
		s.deleted(k, v)
	case famOrigin:
		s.kept = append(s.kept, mail.UID(keyNum(k, 0)))
		if at, err := decodeOrigin(v); err == nil {
			s.origins = append(s.origins, at)
		}
	case famLog:
		s.highest = max(s.highest, mail.ModSeq(keyNum(k, 1)))
	case famTie:
		if t, err := decodeTie(k, v); err == nil { // an id that it names is not given out again
			s.message = max(s.message, t.Message)
		}
	case famFacts, famKeys, famHeader, famBody:
		s.message = max(s.message, mail.MessageID(keyNum(k, 0)))
	}
}

func (s *survey) box(id mail.MailboxID, v []byte) {
	s.mailbox = max(s.mailbox, id)
	m, err := decodeMailbox(v)
	if err == nil && m.ID != id {
		err = fault.New(fault.Corrupt, "")
	}
	if s.broken[id] = err != nil; err == nil {
		s.boxes[id] = m
		s.highest = max(s.highest, m.HighestModSeq)
	}
}

func (s *survey) name(k, v []byte) {
	p, err := unseal(recName, v)
	if err != nil {
		return
	}
	d := dec{Rest: p}
	if id := mail.MailboxID(d.U()); id != 0 {
		s.names[id] = string(k[1:])
		s.mailbox = max(s.mailbox, id)
	}
}

// deleted takes note of a mailbox that was deleted: one whose messages are still to be
// released, or one from which messages are kept.
func (s *survey) deleted(k, v []byte) {
	id := mail.MailboxID(keyNum(k, 0))
	s.mailbox = max(s.mailbox, id)
	if k[0] == famLost {
		if _, err := decodeLost(v); err != nil {
			s.relost = append(s.relost, bytes.Clone(k))
		}
		s.lost[id] = true
		return
	}
	_, err := unseal(recDoomed, v)
	if err != nil {
		_, err = decodeKeptDoomed(v)
	}
	if s.doomed[id] = err == nil; err != nil {
		s.undoom = append(s.undoom, bytes.Clone(k))
	}
}

func (s *survey) rows(k, v []byte) {
	b, number := s.of(mail.MailboxID(keyNum(k, 0))), keyNum(k, 1)
	if k[0] == famPage {
		b.top = max(b.top, mail.UID(number*pageSize))
		p, err := decodePage(v)
		if b.noPage[number] = err != nil; err != nil {
			return
		}
		b.pages[number] = p.present
		if p.present != 0 {
			b.top = max(b.top, mail.UID(number*pageSize)+mail.UID(63-bits.LeadingZeros64(p.present)))
		}
		for _, id := range p.messageIDs() {
			s.message = max(s.message, id)
		}
		if len(v) > 0 && v[0] == recPage {
			b.whole[number], _ = decodeWholePage(v)
		}
		return
	}
	b.top = max(b.top, mail.UID(number*sheetSize))
	var d marksDraft
	if err := d.decode(v); err != nil {
		b.noMarks[number] = true
		return
	}
	b.marks[number] = d.present
	for i, word := range d.present {
		if word != 0 {
			b.top = max(b.top, mail.UID((number*sheetPages+uint64(i))*pageSize)+mail.UID(63-bits.LeadingZeros64(word)))
		}
	}
	for _, m := range d.mods {
		s.highest = max(s.highest, mail.ModSeq(m))
	}
	for _, kind := range d.kinds {
		b.keyword = max(b.keyword, 8*len(kind.keywords))
	}
}

// keptBox finds the mailbox of deleted mail: it has each message of which it is noted where
// it lay, and no other one.
func (s *survey) keptBox() mail.MailboxID {
	want := map[mail.UID]bool{}
	for _, uid := range s.kept {
		want[uid] = true
	}
	for id, m := range s.boxes {
		n, all := 0, true
		for number, word := range s.of(id).pages {
			for ; word != 0; word &= word - 1 {
				n++
				all = all && want[lowestUID(number, word)]
			}
		}
		if len(want) > 0 && m.Name != "INBOX" && (all && n == len(want) || m.Name == keptName) {
			return id
		}
	}
	return 0
}
