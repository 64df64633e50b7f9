package imapd

import (
	"errors"
	"slices"
	"strconv"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// A FETCH of many messages reads what the store keeps page by page (store.BriefKind), if
// that is all it asks for. Of pages that have no briefs yet it reads the messages, and
// asks for briefs when it is done. If it asks for nothing but fields of headers, it reads
// the headers alone.

const (
	briefChunk = 512 // messages of one Snapshot: eight pages
	briefLeast = 128 // messages to ask for: fewer are read as fast one by one
	askedOf    = 32  // messages of a page that a FETCH must ask for to want it brief
	askedPages = 8   // pages it must find without briefs to ask for them

	shortHeaders = 1 << 10 // bytes in the mean up to which headers are read as fast as briefs
)

// briefPlan is how a FETCH is answered from briefs, or from headers.
type briefPlan struct {
	kinds []store.BriefKind
	names [][]byte // of items that are fields of the header, by item
	trace bool     // they are some that briefs do not have
	heads bool     // there is nothing else but rows

	on      bool
	read    *store.Briefs
	missing []mail.UID // a message of each page that has none
	header  []byte     // scratch

	headers, headerBytes int // read without briefs
}

// planBriefs returns nil if there is anything that neither briefs nor headers tell.
func (p *fetchPlan) planBriefs() *briefPlan {
	if !p.facts || p.keys || p.parts || p.heavy || p.seen || p.labels != nil || p.notes != nil {
		return nil
	}
	b := &briefPlan{names: make([][]byte, len(p.items)), heads: true}
	for i := range p.items {
		switch it := &p.items[i]; it.Kind {
		case imap.FetchEnvelope:
			b.need(store.BriefEnvelope)
			b.heads = false
		case imap.FetchBody, imap.FetchBodyStructure:
			b.need(store.BriefStructure)
			b.heads = false
		case imap.FetchSection:
			if it.Text != imap.SectionFields && it.Text != imap.SectionNotFields || it.Partial || it.Old != "" {
				return nil
			}
			trace := func(name string) bool { return !store.InBriefHeader(name) }
			b.trace = b.trace || it.Text == imap.SectionNotFields || slices.ContainsFunc(it.Fields, trace)
			b.need(store.BriefHeader)
			b.names[i] = it.AppendName(nil)
		}
	}
	if b.trace && !b.heads {
		return nil
	}
	return b
}

func (b *briefPlan) need(kind store.BriefKind) {
	if !slices.Contains(b.kinds, kind) {
		b.kinds = append(b.kinds, kind)
	}
}

// begin readies the plan for a FETCH with rising UIDs by a client of today. For a few
// messages briefs are not worth it.
func (b *briefPlan) begin(s *session, cmd *command, uids mail.UIDSet) {
	b.on = cmd.lowest == 0 && !s.old
	if b.on && !b.trace && uids.Len() >= briefLeast {
		b.read = store.NewBriefs(s.view.box, b.kinds...)
	}
}

// use tells whether there is a plan that was begun with briefs.
func (b *briefPlan) use() bool { return b != nil && b.read != nil }

// useHeads tells whether there is one for headers alone.
func (b *briefPlan) useHeads() bool { return b != nil && b.on && b.heads }

// chunk returns how many messages are read in one Snapshot.
func (p *fetchPlan) chunk() int {
	if p.briefs.use() || p.briefs.useHeads() {
		return briefChunk
	}
	return chunkMessages
}

// end asks for the briefs that were missing, if that is worth it.
func (b *briefPlan) end(s *session) {
	short := b.heads && b.headerBytes <= shortHeaders*b.headers
	if len(b.missing) >= askedPages && !short {
		s.view.acct.MakeBriefs(s.view.box, b.kinds, b.missing)
	}
}

// readBriefs answers for the first messages of a chunk if they have briefs, and returns
// how many that were. If they have none it returns them: they are to be read.
func (s *session) readBriefs(snap *store.Snapshot, plan *fetchPlan, chunk []store.Message) (part []store.Message, done int, err error) {
	n, found, err := plan.briefs.read.Read(snap, chunk)
	if err != nil || !found {
		plan.briefs.miss(chunk[:n])
		return chunk[:n], 0, err
	}
	b := s.enc.Buffer()
	for done < n && len(b) < chunkBytes {
		b = s.appendBrief(b, plan, &chunk[done], nil)
		done++
	}
	s.enc.SetBuffer(b)
	return nil, done, nil
}

// readHeads answers for the first messages of a chunk from their headers alone, and
// returns how many that were: none if the header of the first is too long to be read here.
func (s *session) readHeads(snap *store.Snapshot, plan *fetchPlan, chunk []store.Message, lost *bool) (done int, err error) {
	ids := make([]mail.MessageID, len(chunk))
	for i := range chunk {
		ids[i] = chunk[i].ID
	}
	b := s.enc.Buffer()
	err = snap.EachHead(ids, func(i int, head []byte, ok bool) error {
		switch {
		case !ok:
			*lost = true
		case !store.WholeHeader(head) || len(b) > chunkBytes:
			return errEnough
		default:
			b = s.appendBrief(b, plan, &chunk[i], head)
			plan.briefs.headers++
			plan.briefs.headerBytes += len(head)
		}
		done = i + 1
		return nil
	})
	s.enc.SetBuffer(b)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return done, err
}

// miss notes the pages of which many messages were asked for.
func (b *briefPlan) miss(list []store.Message) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && store.SamePage(list[0].UID, list[n].UID) {
			n++
		}
		if n >= askedOf {
			b.missing = append(b.missing, list[0].UID)
		}
		list = list[n:]
	}
}

// appendBrief appends the whole answer for a message, with its header from a brief if it is
// not given.
func (s *session) appendBrief(b []byte, plan *fetchPlan, m *store.Message, head []byte) []byte {
	seq, _ := s.view.pic.Seq(m.UID)
	b = s.appendOpening(b, seq, m.UID)
	for i := range plan.items {
		if i > 0 {
			b = append(b, ' ')
		}
		it, known := &plan.items[i], false
		if b, known = s.appendItem(b, it.Kind, m); known {
			continue
		}
		switch it.Kind {
		case imap.FetchEnvelope:
			b = append(b, "ENVELOPE "...)
			b = append(b, plan.briefs.of(store.BriefEnvelope, m.UID)...)
		case imap.FetchBodyStructure:
			b = append(b, "BODYSTRUCTURE "...)
			b = append(b, plan.briefs.of(store.BriefStructure, m.UID)...)
		case imap.FetchBody:
			b = append(b, "BODY "...)
			b = append(b, mime.BasicStructure(plan.briefs.of(store.BriefStructure, m.UID))...)
		case imap.FetchSection:
			if head == nil {
				head = plan.briefs.of(store.BriefHeader, m.UID)
			}
			b = plan.briefs.appendFields(b, plan.briefs.names[i], it, head)
		}
	}
	return append(b, ")\r\n"...)
}

func (b *briefPlan) of(kind store.BriefKind, uid mail.UID) []byte {
	return b.read.Of(slices.Index(b.kinds, kind), uid)
}

// appendFields appends HEADER.FIELDS or HEADER.FIELDS.NOT.
func (b *briefPlan) appendFields(dst, name []byte, it *imap.FetchItem, head []byte) []byte {
	b.header = mime.AppendFiltered(b.header[:0], head, it.Fields, it.Text == imap.SectionNotFields)
	dst = append(append(dst, name...), " {"...)
	dst = append(strconv.AppendInt(dst, int64(len(b.header)), 10), "}\r\n"...)
	return append(dst, b.header...)
}
