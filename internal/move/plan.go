package move

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Plan is what an import would do.
type Plan struct {
	Source    string        `json:"source"`
	Mailboxes []PlanMailbox `json:"mailboxes"`
	Total     PlanMailbox   `json:"total"`
	// Speed is by how many bytes a second the time was estimated, of source and limits.
	Speed int64 `json:"bytes_per_second"`
}

// PlanMailbox is what would become of a mailbox of the source.
type PlanMailbox struct {
	Source     string    `json:"source"`
	Mailbox    string    `json:"mailbox"` // here
	Made       bool      `json:"made"`    // it is not there yet
	Role       mail.Role `json:"role,omitempty"`
	Why        string    `json:"why,omitempty"` // why it is called otherwise here, or is left out
	LeftOut    bool      `json:"excluded"`
	Kept       bool      `json:"uids_kept"` // if nothing comes into it before
	Newest     bool      `json:"newest_first"`
	Messages   int64     `json:"messages"`   // at the source
	Bytes      int64     `json:"bytes"`      // of these, as far as sizes are known
	Before     int64     `json:"before"`     // brought already
	Left       int64     `json:"left_out"`   // by their date or size
	Duplicates int64     `json:"duplicates"` // have the Message-ID and the size of another one
	Broken     int64     `json:"broken"`     // something is wrong with them; they are brought all the same
	TooLarge   int64     `json:"too_large"`
	New        int64     `json:"new"`       // to be brought
	NewBytes   int64     `json:"new_bytes"` // of these
	Seconds    int64     `json:"seconds"`   // that it may take
	Problem    string    `json:"problem,omitempty"`
}

// Expected speeds where the source does not know better, in bytes a second.
const (
	fileSpeed    = 40 << 20
	networkSpeed = 4 << 20
	smallMessage = 8 << 10 // what a message takes at least, for the time
)

// MakePlan finds out what an import would do, and changes nothing.
func MakePlan(ctx context.Context, o Options) (*Plan, error) {
	if err := o.Choice.Check(); err != nil {
		return nil, err
	}
	im := &importing{Options: o, report: &Report{}, twins: twins{}}
	defer im.closeSource()
	list, err := im.begin(ctx)
	if err != nil {
		return nil, err
	}
	here, err := o.Target.Mailboxes(ctx)
	if err != nil {
		return nil, err
	}
	p := &Plan{Source: im.report.Source, Mailboxes: make([]PlanMailbox, 0, len(list)), Speed: im.speed()}
	for i := range list {
		row, err := im.plan(ctx, &list[i], &here)
		if err != nil {
			return p, err
		}
		if !row.LeftOut {
			p.Total.add(&row, p.Speed)
		}
		p.Mailboxes = append(p.Mailboxes, row)
	}
	return p, nil
}

// speed is how many bytes a second are expected.
func (im *importing) speed() int64 {
	speed := im.advice.Expected
	switch {
	case speed > 0:
	case im.advice.Files:
		speed = fileSpeed
	default:
		speed = networkSpeed
	}
	if im.pace.bytes > 0 {
		speed = min(speed, int64(im.pace.bytes)+1)
	}
	return speed
}

func (t *PlanMailbox) add(row *PlanMailbox, speed int64) {
	row.Seconds = (row.NewBytes + row.New*smallMessage) / speed
	t.Messages += row.Messages
	t.Bytes += row.Bytes
	t.Before += row.Before
	t.Left += row.Left
	t.Duplicates += row.Duplicates
	t.Broken += row.Broken
	t.TooLarge += row.TooLarge
	t.New += row.New
	t.NewBytes += row.NewBytes
	t.Seconds += row.Seconds
}

// plan looks at one mailbox.
func (im *importing) plan(ctx context.Context, m *Mailbox, here *[]Place) (row PlanMailbox, err error) {
	row = PlanMailbox{Source: m.Source, Role: m.Role, Messages: max(m.Messages, 0), Bytes: max(m.Bytes, 0)}
	if why := im.Choice.leavesBox(m); why != "" {
		row.LeftOut, row.Mailbox, row.Why = true, m.Name, why
		return row, nil
	}
	row.Why = im.Choice.rename(m)
	if row.Problem = m.Unreadable; row.Problem != "" {
		row.Mailbox = m.Name
		return row, nil
	}
	at, made := whereTo(*here, m)
	if row.Mailbox, row.Made, row.Role = at.Name, made, at.Role; made {
		*here = append(*here, at)
	}
	row.Kept = m.UIDValidity != 0 && (at.UIDNext <= 1 || at.UIDValidity == m.UIDValidity)
	row.Newest = im.Choice.order(m, row.Kept, im.advice) == NewestFirst
	if m.Scattered {
		row.Mailbox, row.Why = "", "by its labels"
	}
	v := &planner{im: im, row: &row, box: Box{im.report.Source, m.Source}}
	row.Messages, row.Bytes = 0, 0
	err = im.src.Read(ctx, *m, Reading{Plan: true, Identify: true}, v)
	if v.failed != nil {
		return row, v.failed
	}
	if err != nil && ctx.Err() == nil {
		row.Problem = describe(err)
		row.Messages, row.Bytes = max(row.Messages, m.Messages), max(row.Bytes, m.Bytes)
		im.closeSource()
		err = im.openSource(ctx)
	}
	return row, err
}

// whereTo returns the mailbox here that one of the source would go into, and whether it would
// be made.
func whereTo(here []Place, m *Mailbox) (at Place, made bool) {
	name := NameHere(m.Name)
	if m.Role == mail.RoleInbox {
		name = "INBOX"
	} else if i := slices.IndexFunc(here, func(p Place) bool { return p.Role == m.Role }); i >= 0 && m.Role != "" {
		if m.Exact && here[i].UIDNext <= 1 { // it gets the name, or the one of the name its role
			if j := slices.IndexFunc(here, func(p Place) bool { return p.Name == name }); j >= 0 {
				return here[j], false
			}
			here[i].Name = name
		}
		return here[i], false
	}
	if i := slices.IndexFunc(here, func(p Place) bool { return p.Name == name }); i >= 0 {
		return here[i], false
	}
	return Place{Name: name, Role: m.Role}, true
}

// planner is the Visitor of a plan.
type planner struct {
	im     *importing
	row    *PlanMailbox
	box    Box
	failed error
}

func (v *planner) Want(ctx context.Context, items []Item) ([]bool, error) {
	keys := make([]string, len(items))
	for i := range items {
		keys[i] = items[i].Key
	}
	ties, err := v.im.Target.Ties(ctx, v.box, keys)
	if err != nil {
		v.failed = err
		return nil, err
	}
	for i := range items {
		v.count(&items[i], ties[i] != nil)
	}
	v.im.tell(Event{Event: "progress", Source: v.row.Source, Mailbox: v.row.Mailbox, Done: v.row.Messages})
	return make([]bool, len(items)), nil
}

func (v *planner) count(item *Item, before bool) {
	row := v.row
	row.Messages++
	row.Bytes += max(item.Size, 0)
	twin := v.im.twins.again(v.row.Source, item)
	if twin {
		row.Duplicates++
	}
	if item.Broken != "" {
		row.Broken++
	}
	switch {
	case before:
		row.Before++
	case v.im.Choice.leaves(item) != "" || twin && v.im.Choice.SkipDuplicates:
		row.Left++
	case v.im.most > 0 && item.Size > v.im.most:
		row.TooLarge++
	default:
		row.New++
		row.NewBytes += max(item.Size, 0)
	}
}

func (v *planner) Put(context.Context, Item, io.Reader) error { return nil }
func (v *planner) Skip(context.Context, Item, error) error    { return nil }
func (v *planner) Gone(context.Context, []string) error       { return nil }
func (v *planner) State(context.Context, []byte) error        { return nil }

// Duration writes how long something may take, for people: "3 min".
func Duration(seconds int64) string {
	switch {
	case seconds < 60:
		return "< 1 min"
	case seconds < 2*60*60:
		return fmt.Sprintf("%d min", (seconds+30)/60)
	case seconds < 2*24*60*60:
		return fmt.Sprintf("%d h", (seconds+30*60)/(60*60))
	}
	return fmt.Sprintf("%d days", seconds/(24*60*60))
}
