package imapd

import (
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// A FETCH goes in chunks: a Snapshot is opened, what a chunk of messages needs is
// read or encoded, the Snapshot is closed, and then the socket is written.
const (
	chunkMessages = 256
	chunkBytes    = 256 << 10
)

// fetchPlan is what a FETCH asks for and how much of a message that takes.
type fetchPlan struct {
	items []imap.FetchItem
	facts bool // needs the facts of each message
	keys  bool // and the rest of them: for the preview
	parts bool // and its part tree
	head  bool // and its top header
	heavy bool // needs bytes of the body
	shape bool // and more of the message to know which
	seen  bool // sets \Seen
	mod   bool // asks for MODSEQ

	briefs *briefPlan  // if briefs have all that it asks for and the row has not
	writer fetchWriter // for one message after the other
	labels *labelNames // if it asks for X-GM-LABELS
	notes  *noteReader // if it asks for ANNOTATION
}

// fetch is FETCH and UID FETCH (RFC 9051, 6.4.5).
func (s *session) fetch(cmd *command, args imap.Fetch) (reply, error) {
	if args.Vanished && (!cmd.uid || !s.qresync) {
		return bad("VANISHED is for UID FETCH after QRESYNC was enabled"), nil
	}
	if args.Paged && s.overLimit(args.Partial) {
		return reply{}, tooMany(s.srv.opt.MessageLimit)
	}
	uids, missing, err := s.resolve(args.Set, cmd.uid)
	if err != nil {
		return reply{}, err
	}
	plan := newFetchPlan(args, cmd.uid && !s.uidOnly)
	if plan.mod {
		s.enableCondstore()
	}
	if slices.ContainsFunc(plan.items, func(it imap.FetchItem) bool { return it.Kind == imap.FetchObjectID }) {
		s.enableObjectID()
	}
	if args.Vanished {
		if err := s.tellEarlier(&args); err != nil {
			return reply{}, err
		}
	}
	if args.Paged { // and of the page those that changed (RFC 9394, 3.4)
		uids = page(s.view.pic.Existing(uids), args.Partial)
	}
	if args.Changed {
		uids = s.view.pic.ChangedSince(uids, s.view.since(args.ChangedSince))
	}
	uids = s.limit(cmd, uids)
	if plan.seen && !s.view.readOnly && s.view.rights.Has(mail.RightSeen) {
		s.markSeen(cmd, uids)
	}
	lost, err := s.fetchAll(cmd, plan, uids)
	if err != nil {
		return reply{}, err
	}
	if missing || lost && !cmd.uid {
		return okCode("EXPUNGEISSUED", "some of the messages no longer exist"), nil // RFC 5530, 3
	}
	return ok(cmd.row.name + " done"), nil
}

func newFetchPlan(args imap.Fetch, uid bool) *fetchPlan {
	p := &fetchPlan{items: args.Items}
	has := func(k imap.FetchKind) bool {
		return slices.ContainsFunc(p.items, func(it imap.FetchItem) bool { return it.Kind == k })
	}
	if args.Changed && !has(imap.FetchModSeq) {
		p.items = append([]imap.FetchItem{{Kind: imap.FetchModSeq}}, p.items...)
	}
	if uid && !has(imap.FetchUID) {
		p.items = append([]imap.FetchItem{{Kind: imap.FetchUID}}, p.items...)
	}
	p.mod = has(imap.FetchModSeq)
	for i := range p.items {
		p.need(&p.items[i])
	}
	p.shape = p.shape || p.facts || p.parts || p.head
	p.facts = p.shape || p.heavy
	p.briefs = p.planBriefs()
	return p
}

func (p *fetchPlan) need(it *imap.FetchItem) {
	switch it.Kind {
	case imap.FetchEnvelope, imap.FetchBody, imap.FetchBodyStructure:
		p.facts = true
	case imap.FetchPreview:
		p.facts, p.keys = true, true
	case imap.FetchLabels:
		p.labels = &labelNames{}
	case imap.FetchAnnotation:
		p.notes = newNoteReader(it)
	case imap.FetchBinary, imap.FetchBinarySize:
		p.seen = p.seen || !it.Peek
		p.parts, p.heavy = true, true
	case imap.FetchSection:
		p.seen = p.seen || !it.Peek
		switch {
		case len(it.Path) > 0:
			p.parts, p.heavy = true, true
		case ofTopHeader(it):
			p.head = true
		default:
			p.heavy = true
			p.shape = p.shape || it.Text != imap.SectionAll
		}
	}
}

// ofTopHeader tells whether an item is about the header of the message itself.
func ofTopHeader(it *imap.FetchItem) bool {
	if it.Kind != imap.FetchSection || len(it.Path) > 0 {
		return false
	}
	return it.Text == imap.SectionHeader || it.Text == imap.SectionFields || it.Text == imap.SectionNotFields
}

// markSeen sets \Seen on the messages whose text is fetched. The answer to the FETCH
// tells it; that it cannot be set (a full disk) does not keep anybody from reading.
func (s *session) markSeen(cmd *command, uids mail.UIDSet) {
	var unseen mail.UIDSet
	for _, m := range s.view.pic.Messages(uids) {
		if !m.Flags.Has(mail.Seen) {
			unseen.Add(m.UID)
		}
	}
	if unseen.IsEmpty() {
		return
	}
	change := store.FlagChange{Op: store.AddFlags, Flags: mail.Seen}
	if _, err := s.view.acct.SetFlags(s.ctx, s.view.box, unseen, change); err != nil {
		s.c.Log().Warn("messages read, but not marked so", "err", err)
		return
	}
	cmd.own = &ownChange{set: unseen, change: change, silent: true}
}

// fetchAll answers for all messages of the set, in chunks. lost says that one has
// gone meanwhile.
func (s *session) fetchAll(cmd *command, plan *fetchPlan, uids mail.UIDSet) (lost bool, err error) {
	if plan.briefs != nil {
		plan.briefs.begin(s, cmd, uids)
		defer plan.briefs.end(s)
	}
	if !plan.facts && plan.labels == nil && plan.notes == nil {
		return false, s.fetchRows(cmd, plan, uids)
	}
	var chunk []store.Message
	do := func() error {
		gone, err := s.fetchChunk(cmd, plan, chunk)
		lost = lost || gone
		chunk = chunk[:0]
		if err == nil {
			err = s.flushFull()
		}
		if err == nil {
			err = s.mayGoOn(s.srv.opt.Now(), 0)
		}
		return err
	}
	for _, m := range s.inOrder(cmd, uids) {
		if chunk = append(chunk, m); len(chunk) == plan.chunk() {
			if err := do(); err != nil {
				return lost, err
			}
		}
	}
	return lost, do()
}

// fetchOne writes the whole answer for one message. If it fails with NotFound
// nothing of it has been written.
func (s *session) fetchOne(plan *fetchPlan, ld *loaded) error {
	e := s.enc
	w := &plan.writer
	*w = fetchWriter{s: s, ld: ld, labels: plan.labels, notes: plan.notes, start: e.Len()}
	s.openFetch(ld.m.UID)
	flags := false
	for i := range plan.items {
		if i > 0 {
			e.SP()
		}
		flags = flags || plan.items[i].Kind == imap.FetchFlags
		if err := w.item(&plan.items[i]); err != nil {
			return err
		}
	}
	if ld.seen && !flags {
		e.SP()
		w.flags()
	}
	e.Raw(")").CRLF()
	return nil
}

// item writes one item of a message.
func (w *fetchWriter) item(it *imap.FetchItem) error {
	e, ld := w.s.enc, w.ld
	switch it.Kind {
	case imap.FetchFlags:
		w.flags()
	case imap.FetchLabels:
		w.s.writeLabels(w.labels, ld.m)
	case imap.FetchAnnotation:
		w.s.writeNotes(w.notes, ld.m.UID)
	case imap.FetchPreview:
		e.Raw("PREVIEW ").String(ld.preview)
	case imap.FetchEnvelope:
		e.Raw("ENVELOPE ")
		w.wire(ld.facts.Envelope)
	case imap.FetchBodyStructure:
		e.Raw("BODYSTRUCTURE ").RawBytes(ld.facts.BodyStructure)
	case imap.FetchBody:
		e.Raw("BODY ")
		w.wire(mime.BasicStructure(ld.facts.BodyStructure))
	case imap.FetchSection:
		return w.section(it)
	case imap.FetchBinary, imap.FetchBinarySize:
		return w.binary(it)
	default:
		b, _ := w.s.appendItem(e.Buffer(), it.Kind, &ld.m)
		e.SetBuffer(b)
	}
	return nil
}

func (w *fetchWriter) flags() {
	m := w.ld.m
	if w.ld.seen {
		m.Flags |= mail.Seen
	}
	w.s.writeFlags(m)
}
