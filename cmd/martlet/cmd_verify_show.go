package main

import (
	"fmt"
	"strings"
)

// show tells a person of a line.
func (r *repairer) show(l repairLine) error {
	if r.bar != nil {
		_ = r.bar.Clear()
	}
	var err error
	switch l.Event {
	case "damaged":
		_, err = fmt.Fprintf(r.out, "%s file %s: %s\n", paint(r.out, "31", "damaged"), clean(l.File), clean(l.What))
	case "unreadable":
		_, err = fmt.Fprintf(r.out, "%s in file %s: %s\n", paint(r.out, "31", "lost"), clean(l.File), clean(l.What))
	case "mended":
		word := paint(r.out, "33", "mended")
		if l.Lost {
			word = paint(r.out, "31", "lost")
		} else if l.Refused {
			word = paint(r.out, "31", "not given")
		}
		_, err = fmt.Fprintf(r.out, "%s %s: %s", word, clean(l.place()), clean(l.What))
		if l.Subject != "" || l.From != "" {
			_, err = fmt.Fprintf(r.out, " (from %s: %s)", clean(l.From), clean(l.Subject))
		}
		if err == nil {
			_, err = fmt.Fprintln(r.out)
		}
	case "done":
		if l.What != "" {
			_, err = fmt.Fprintln(r.out, l.What)
			break
		}
		for _, name := range l.Turned {
			_, _ = fmt.Fprintf(r.out, "file %s is as it was again\n", clean(name))
		}
		if l.Gaps > 0 || l.Values > 0 {
			_, _ = fmt.Fprintf(r.out, "%s of records and %s could not be read\n",
				counted(int64(l.Gaps), "range"), counted(int64(l.Values), "single record"))
		}
		word := paint(r.out, "32", "repaired, nothing is lost")
		if l.OK != nil && !*l.OK {
			word = paint(r.out, "31", "repaired in part")
		}
		_, err = fmt.Fprintf(r.out, "%s; what was replaced and the report lie in %s\nnow run: martlet verify\n", word, l.Away)
	}
	return err
}

// place says what a line is about.
func (l *repairLine) place() string {
	place := l.Address
	switch {
	case l.QueueID != "":
		place = "queue, message " + l.QueueID
		if len(l.To) > 0 {
			place += " to " + strings.Join(l.To, ", ")
		}
	case place == "" && l.Account != 0:
		place = fmt.Sprintf("account %d", l.Account)
	case place == "":
		place = "directory"
	}
	if l.Mailbox != "" {
		place += ", " + l.Mailbox
	}
	if l.UID > 0 {
		place += fmt.Sprintf(", UID %d", l.UID)
	}
	return place
}
