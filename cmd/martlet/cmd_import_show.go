package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/move"
)

// importShow tells of an import while it goes on: a bar on a terminal; with --json a line for
// each event; else a line for what is worth one.
type importShow struct {
	out, err io.Writer
	json     bool
	bar      *progressbar.ProgressBar
	last     time.Time
	lines    int  // about messages of the mailbox
	begun    bool // the first mailbox
}

// mostLines are told to a person about single messages of a mailbox; the report has more.
const mostLines = 20

func newImportShow(cmd *cobra.Command) *importShow {
	return &importShow{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), json: wantsJSON(cmd)}
}

// event has the form of move.Options.Tell.
func (s *importShow) event(e move.Event) {
	switch e.Event {
	case "progress":
		s.progress(e)
		return
	case "mailbox":
		s.begun = true
		s.begin(e)
	case "mailbox_done", "mailbox_failed":
		s.clear()
		s.more(e)
	}
	if s.json {
		printJSON(s.out, e)
		return
	}
	switch e.Event {
	case "waiting":
		s.waits(e.Why)
	case "skipped", "changed", "differs":
		if s.lines++; s.lines > mostLines {
			return
		}
		s.line(fmt.Sprintf("%s: message %s is %s: %s", e.Source, e.Key, e.Event, e.Why))
	case "mailbox_failed":
		s.line(fmt.Sprintf("%s: %s", e.Source, e.Why))
	}
}

// more tells that not all was told about a mailbox.
func (s *importShow) more(e move.Event) {
	if s.lines > mostLines && !s.json {
		s.line(fmt.Sprintf("%s: and %d more; --report FILE or --json tells of them", e.Source, s.lines-mostLines))
	}
	s.lines = 0
}

// planning shows how far a plan is, to a person.
func (s *importShow) planning(e move.Event) {
	switch {
	case s.json && e.Event != "waiting":
	case e.Event == "progress" && s.bar == nil:
		s.begin(move.Event{Source: "looking at " + e.Source, Total: e.Total})
	default:
		s.event(e)
	}
}

// waits tells a person what is waited for.
func (s *importShow) waits(why string) {
	if why == "" {
		return
	}
	if s.json {
		printJSON(s.out, move.Event{Event: "waiting", Why: why})
		return
	}
	s.line(why)
}

func (s *importShow) line(text string) {
	if s.bar != nil {
		s.bar.Clear()
	}
	fmt.Fprintf(s.err, "martlet: %s\n", clean(text))
}

func (s *importShow) begin(e move.Event) {
	s.clear()
	if s.json || !isTerminal(s.err) {
		return
	}
	s.bar = progressbar.NewOptions64(max(e.Total, 1), progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription(fit(clean(e.Source), 28)),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true), progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("msg"),
		progressbar.OptionSetWidth(16), progressbar.OptionThrottle(100*time.Millisecond))
}

func (s *importShow) progress(e move.Event) {
	if s.bar != nil {
		if e.Total > s.bar.GetMax64() {
			s.bar.ChangeMax64(e.Total)
		}
		s.bar.Set64(min(e.Done, e.Total))
		return
	}
	if now := time.Now(); s.json && now.Sub(s.last) >= time.Second {
		s.last = now
		printJSON(s.out, e)
	}
}

// clear takes the bar away.
func (s *importShow) clear() {
	if s.bar != nil {
		s.bar.Clear()
		s.bar = nil
	}
}

// fit cuts text to n characters.
func fit(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n-1]) + "…"
}

// shortID stands for a path that is too long to name a source.
func shortID(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:])
}

// planLine is a line about a plan.
type planLine struct {
	Event string `json:"event"` // mailbox, plan
	move.PlanMailbox
}

// showPlan writes what would be done.
func showPlan(cmd *cobra.Command, p *move.Plan) error {
	out := cmd.OutOrStdout()
	if wantsJSON(cmd) {
		for i := range p.Mailboxes {
			if err := printJSON(out, planLine{"mailbox", p.Mailboxes[i]}); err != nil {
				return err
			}
		}
		total := p.Total
		total.Source = p.Source
		return printJSON(out, planLine{"plan", total})
	}
	t := newTable(out, "THERE", "HERE", "MESSAGES", "TO BRING", "SIZE", "TIME")
	for i := range p.Mailboxes {
		m := &p.Mailboxes[i]
		here := m.Mailbox
		if m.LeftOut {
			here = "-"
		} else if m.Mailbox == "" {
			here = "(by labels)"
		}
		took := "-"
		if m.New > 0 {
			took = move.Duration(m.Seconds)
		}
		t.row(fit(m.Source, 20), fit(here, 18), m.Messages, m.New, bytesText(m.NewBytes), took)
	}
	if err := t.end("there are no mailboxes"); err != nil {
		return err
	}
	for _, line := range planNotes(p) {
		fmt.Fprintln(out, clean(line))
	}
	_, err := fmt.Fprintf(out, "%s (%s) to bring, %s\n", counted(p.Total.New, "message"), bytesText(p.Total.NewBytes), move.Duration(p.Total.Seconds))
	return err
}

// planNotes are what the table has no column for.
func planNotes(p *move.Plan) (notes []string) {
	add := func(n int64, one, many string) {
		if n == 1 {
			notes = append(notes, "1 message "+one)
		} else if n > 1 {
			notes = append(notes, fmt.Sprintf("%d messages %s", n, many))
		}
	}
	add(p.Total.Before, "has come already", "have come already")
	add(p.Total.Left, "is left out by its date, size or as a duplicate", "are left out by date, size or as duplicates")
	add(p.Total.Duplicates, "is there twice, by Message-ID and size", "are there twice, by Message-ID and size")
	add(p.Total.Broken, "is broken, and comes as it is", "are broken, and come as they are")
	add(p.Total.TooLarge, "is larger than the server takes; see [limits] message_size", "are larger than the server takes; see [limits] message_size")
	kept := 0
	for i := range p.Mailboxes {
		m := &p.Mailboxes[i]
		if m.Why != "" {
			to := " is left out: "
			if !m.LeftOut {
				to = " becomes " + m.Mailbox + ": "
			}
			notes = append(notes, m.Source+to+m.Why)
		}
		if m.Problem != "" {
			notes = append(notes, m.Source+" cannot be read: "+m.Problem)
		}
		if m.Newest && !m.LeftOut {
			notes = append(notes, m.Source+" is read newest first")
		}
		if m.Kept && !m.LeftOut {
			kept++
		}
	}
	if kept > 0 {
		notes = append(notes, "UIDs are kept in "+counted(int64(kept), "mailbox")+": clients need not download them again")
	}
	return notes
}
