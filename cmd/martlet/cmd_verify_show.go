package main

import "fmt"

// show tells a person of a line.
func (r *repairer) show(l repairLine) error {
	var err error
	switch l.Event {
	case "damaged":
		_, err = fmt.Fprintf(r.out, "%s file %s: %s\n", paint(r.out, "31", "damaged"), clean(l.File), clean(l.What))
	case "progress":
		_, err = fmt.Fprintf(r.out, "\r%d records, %s brought over ", l.Records, bytesText(l.Bytes))
	case "mended":
		word := paint(r.out, "33", "mended")
		if l.Lost {
			word = paint(r.out, "31", "lost")
		}
		_, err = fmt.Fprintf(r.out, "%s account %d, %s, UID %d: %s", word, l.Account, clean(l.Mailbox), l.UID, clean(l.What))
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
		if l.Gaps > 0 || l.Values > 0 {
			_, _ = fmt.Fprintf(r.out, "%s of records and %s could not be read; what only they held is lost\n",
				counted(int64(l.Gaps), "range"), counted(int64(l.Values), "single record"))
		}
		_, err = fmt.Fprintf(r.out, "repaired; %s lost; what was replaced and the report lie in %s\nnow run: martlet verify\n", counted(int64(l.Missing), "message"), l.Away)
	}
	return err
}
