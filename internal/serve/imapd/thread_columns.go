package imapd

import (
	"hash/maphash"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// threadColumns is what threading looks at of all messages of a mailbox, in its order:
// about 50 bytes a message.
type threadColumns struct {
	membership
	uids     []mail.UID
	dates    []int64
	subjects []subjectKey
	ids      []uint64
	marks    []uint8
	refs     []uint64
	ends     []uint32 // of each message: where its references end in refs
}

const (
	markReply = 1 << iota
	markNamed
)

func (c *threadColumns) of() *membership { return &c.membership }

func (c *threadColumns) bytes() int64 {
	return 400 + int64(cap(c.uids))*4 + int64(cap(c.dates))*8 + int64(cap(c.subjects))*16 + int64(cap(c.ids))*8 +
		int64(cap(c.marks)) + int64(cap(c.refs))*8 + int64(cap(c.ends))*4
}

func newThreadColumns(of membership, messages, refs int) *threadColumns {
	return &threadColumns{
		membership: of, uids: make([]mail.UID, 0, messages), dates: make([]int64, 0, messages),
		subjects: make([]subjectKey, 0, messages), ids: make([]uint64, 0, messages), marks: make([]uint8, 0, messages),
		refs: make([]uint64, 0, refs), ends: make([]uint32, 0, messages),
	}
}

func (c *threadColumns) refsOf(i int) []uint64 {
	from := uint32(0)
	if i > 0 {
		from = c.ends[i-1]
	}
	return c.refs[from:c.ends[i]:c.ends[i]]
}

func (c *threadColumns) add(uid mail.UID, m *threadMessage) {
	marks := uint8(0)
	if m.reply {
		marks |= markReply
	}
	if m.named {
		marks |= markNamed
	}
	c.uids, c.dates, c.subjects = append(c.uids, uid), append(c.dates, m.date), append(c.subjects, m.subject)
	c.ids, c.marks, c.refs = append(c.ids, m.id), append(c.marks, marks), append(c.refs, m.refs...)
	c.ends = append(c.ends, uint32(len(c.refs)))
}

func (c *threadColumns) message(i int) threadMessage {
	return threadMessage{
		date: c.dates[i], subject: c.subjects[i], reply: c.marks[i]&markReply != 0, named: c.marks[i]&markNamed != 0,
		id: c.ids[i], refs: c.refsOf(i),
	}
}

// messages returns those of the messages that are wanted, nil meaning all, and their UIDs.
func (c *threadColumns) messages(wanted func(mail.UID) bool) ([]mail.UID, []threadMessage) {
	uids, msgs := c.uids, make([]threadMessage, 0, len(c.uids))
	if wanted != nil {
		uids = nil
	}
	for i, uid := range c.uids {
		if wanted == nil {
			msgs = append(msgs, c.message(i))
		} else if wanted(uid) {
			uids, msgs = append(uids, uid), append(msgs, c.message(i))
		}
	}
	return uids, msgs
}

// threadColumns returns the columns of the selected mailbox.
func (s *session) threadColumns(key arrangementKey) (*threadColumns, error) {
	now, err := s.arrange(key, func(old arrangement) (now arrangement, err error) {
		var columns *threadColumns
		if old != nil {
			columns, err = s.rollColumns(old.(*threadColumns))
		}
		if columns == nil && err == nil {
			columns, err = s.rollColumns(&threadColumns{})
		}
		return columns, err
	})
	if err != nil {
		return nil, err
	}
	return now.(*threadColumns), nil
}

// rollColumns brings columns forward to the picture of the view. It returns nil if the
// picture is an earlier one.
func (s *session) rollColumns(old *threadColumns) (*threadColumns, error) {
	pic := s.view.pic
	seq, _ := pic.Seq(old.last + 1)
	stay := seq - 1
	if stay > old.n {
		return nil, nil
	}
	uids, come, err := s.threadMessages(mail.UIDSet{{From: old.last + 1, To: 1<<32 - 1}}, true)
	if err != nil {
		return nil, err
	}
	refs := len(old.refs)
	for i := range come {
		refs += len(come[i].refs)
	}
	now := newThreadColumns(membersOf(pic), stay+len(come), refs)
	for i, uid := range old.uids {
		if _, there := pic.Seq(uid); there {
			m := old.message(i)
			now.add(uid, &m)
		}
	}
	if len(now.uids) != stay {
		return nil, nil
	}
	for i := range come {
		now.add(uids[i], &come[i])
	}
	return now, nil
}

// wholeThreads is all messages of a mailbox in threads: about 16 bytes a message.
type wholeThreads struct {
	membership
	uids     []mail.UID
	arranged *arranged
}

func (t *wholeThreads) of() *membership { return &t.membership }

func (t *wholeThreads) bytes() int64 {
	return 400 + 4*int64(cap(t.uids)+cap(t.arranged.roots)+cap(t.arranged.start)+cap(t.arranged.kids))
}

// threaded puts messages of the selected mailbox into threads.
func (s *session) threaded(found mail.UIDSet, by imap.Threading) (*wholeThreads, error) {
	key := s.arrangementKey("threads of")
	if !s.arranges(found, key) {
		return s.thread(found, by)
	}
	if !s.isWhole(found) {
		c, err := s.threadColumns(key)
		if err != nil {
			return nil, err
		}
		uids, msgs := c.messages(members(found, c.n))
		return &wholeThreads{uids: uids, arranged: threads(msgs, by)}, nil
	}
	ofAll := s.arrangementKey("threads " + string(rune('0'+by)))
	t, err := s.arrange(ofAll, func(arrangement) (arrangement, error) {
		c, err := s.threadColumns(key)
		if err != nil {
			return nil, err
		}
		uids, msgs := c.messages(nil)
		return &wholeThreads{membership: membersOf(s.view.pic), uids: uids, arranged: threads(msgs, by)}, nil
	})
	if err != nil {
		return nil, err
	}
	return t.(*wholeThreads), nil
}

// thread reads messages and puts them into threads.
func (s *session) thread(found mail.UIDSet, by imap.Threading) (*wholeThreads, error) {
	uids, msgs, err := s.threadMessages(found, by != imap.OrderedSubject)
	if err != nil {
		return nil, err
	}
	return &wholeThreads{uids: uids, arranged: threads(msgs, by)}, nil
}

// subjectKey returns the key of a folded base subject. Of subjects only whether they are
// the same counts; nobody outside can know which would have the same hash.
func (c *arrangements) subjectKey(folded []byte) subjectKey {
	if len(folded) == 0 {
		return subjectKey{}
	}
	return subjectKey{maphash.Bytes(c.seeds[0], folded), maphash.Bytes(c.seeds[1], folded) | 1}
}
