package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"github.com/martlet-mail/martlet/internal/move"
)

// importReport gathers the proof of an import: lines of JSON whose SHA-256 is told, and a
// table.
type importReport struct {
	sum     hash.Hash
	file    io.WriteCloser // --report, or nil
	echo    io.Writer      // --json, or nil
	rows    []move.Proof
	differs int
	failed  error
}

// proofLine is a line about a mailbox, differenceLine one about a message.
type (
	proofLine struct {
		Event string `json:"event"` // proof
		Whole bool   `json:"whole"`
		move.Proof
	}
	differenceLine struct {
		Event string `json:"event"` // skipped, different
		move.Difference
	}
	sumLine struct {
		Event     string `json:"event"` // done
		Source    string `json:"source,omitempty"`
		Account   string `json:"account"`
		Whole     bool   `json:"whole"`
		Messages  int64  `json:"messages"`
		Brought   int64  `json:"brought"` // now
		Bytes     int64  `json:"bytes"`   // of these
		Here      int64  `json:"here"`
		Skipped   int64  `json:"skipped"`
		Different int64  `json:"different"`
		SHA256    string `json:"sha256,omitempty"` // of all lines of the report before this one
	}
)

func (run *importRun) newReport() (*importReport, error) {
	r := &importReport{sum: sha256.New()}
	if wantsJSON(run.cmd) {
		r.echo = run.cmd.OutOrStdout()
	}
	if name, _ := run.cmd.Flags().GetString("report"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			return nil, failed("cannot write the report: %v", err)
		}
		r.file = f
	}
	return r, nil
}

func (r *importReport) line(v any) {
	b, err := json.Marshal(v)
	if err == nil {
		b = append(b, '\n')
		r.sum.Write(b)
		if r.file != nil {
			_, err = r.file.Write(b)
		}
	}
	if err == nil && r.echo != nil {
		_, err = r.echo.Write(b)
	}
	r.failed = errors.Join(r.failed, err)
}

func (r *importReport) different(d move.Difference) {
	r.differs++
	r.line(differenceLine{"different", d})
}

func (r *importReport) row(p move.Proof) {
	r.rows = append(r.rows, p)
	r.line(proofLine{"proof", p.Whole(), p})
}

// bring imports, and proves it.
func (run *importRun) bring(ctx context.Context) error {
	report, err := run.newReport()
	if err != nil {
		return err
	}
	done, err := move.Import(ctx, run.opt)
	run.show.clear()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(done.Mailboxes, func(m move.MailboxReport) bool { return m.Why == "" }) {
		return failed("there is no mailbox to bring among the %d there; --plan lists them", len(done.Mailboxes))
	}
	for _, d := range move.SkippedOf(done) {
		if report.echo = nil; report.file != nil { // it has been told as it happened
			report.line(differenceLine{"skipped", d})
		}
	}
	if wantsJSON(run.cmd) {
		report.echo = run.cmd.OutOrStdout()
	}
	end := sumLine{Event: "done", Source: done.Source, Account: run.to}
	for i := range done.Mailboxes {
		m := &done.Mailboxes[i]
		end.Brought += m.Brought
		end.Bytes += m.Read
		end.Different += m.Differs
	}
	if skip, _ := run.cmd.Flags().GetBool("no-proof"); skip {
		for i := range done.Mailboxes {
			if m := &done.Mailboxes[i]; m.Why == "" {
				report.row(move.Unproven(m))
			}
		}
	} else if err := move.Prove(ctx, run.target, done, report.different, report.row); err != nil {
		return err
	}
	return run.end(report, end)
}

// verify reads the source again.
func (run *importRun) verify(ctx context.Context) error {
	report, err := run.newReport()
	if err != nil {
		return err
	}
	if err := move.Verify(ctx, run.opt, report.different, report.row); err != nil {
		return err
	}
	run.show.clear()
	return run.end(report, sumLine{Event: "done", Account: run.to})
}

// end tells how it went.
func (run *importRun) end(r *importReport, sum sumLine) error {
	sum.Whole = sum.Different == 0
	for i := range r.rows {
		p := &r.rows[i]
		sum.Whole = sum.Whole && p.Whole()
		sum.Messages += p.Messages
		sum.Here += p.Here
		sum.Skipped += p.Skipped
		sum.Different += p.Differ + p.Lost
	}
	sum.SHA256 = hex.EncodeToString(r.sum.Sum(nil))
	r.line(sum)
	if r.file != nil {
		name, _ := run.cmd.Flags().GetString("report")
		r.failed = errors.Join(r.failed, r.file.Close(), writeProofText(name+".txt", r.rows, &sum))
	}
	if r.failed != nil {
		return failed("the report cannot be written: %v", r.failed)
	}
	if !wantsJSON(run.cmd) {
		if err := proofText(run.cmd.OutOrStdout(), r.rows, &sum); err != nil {
			return err
		}
	}
	switch {
	case sum.Whole:
		return nil
	case sum.Skipped > 0 && sum.Different == 0 && !slices.ContainsFunc(r.rows, func(p move.Proof) bool { return p.Dates > 0 || p.Problem != "" }):
		return failed("%s could not be brought, for the reasons that are told; all others are here", counted(sum.Skipped, "message"))
	}
	return failed("not all is here as it is there: see the lines above; run it again with --verify to compare each message with the source")
}

func writeProofText(name string, rows []move.Proof, sum *sumLine) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(proofText(f, rows, sum), f.Close())
}

// proofText writes the proof for people.
func proofText(w io.Writer, rows []move.Proof, sum *sumLine) error {
	t := newTable(w, "THERE", "HERE", "MESSAGES", "ARE HERE", "SIZE", "SAME BYTES", "")
	for i := range rows {
		p := &rows[i]
		mark := "ok"
		if !p.Whole() {
			mark = "NOT WHOLE"
		}
		t.row(fit(p.Source, 20), fit(orDash(p.Mailbox), 18), p.Messages, p.Here, bytesText(p.Bytes), p.Same, mark)
	}
	if err := t.end("there are no mailboxes"); err != nil {
		return err
	}
	for i := range rows {
		for _, note := range proofNotes(&rows[i]) {
			fmt.Fprintln(w, clean(rows[i].Source+": "+note))
		}
	}
	news := "nothing new"
	if sum.Brought > 0 {
		news = fmt.Sprintf("%s (%s) new", counted(sum.Brought, "message"), bytesText(sum.Bytes))
	}
	_, err := fmt.Fprintf(w, "%s here, %s; SHA-256 of the report %s\n", counted(sum.Here, "message"), news, sum.SHA256)
	return err
}

func proofNotes(p *move.Proof) (notes []string) {
	for _, n := range []struct {
		n    int64
		what string
	}{
		{p.LeftOut, "left out, as was asked"}, {p.Skipped, "could not be brought"}, {p.Changed, "came with a change that was told"},
		{p.Differ, "with other bytes than came"}, {p.Lost, "missing"}, {p.Dates, "with another date"},
		{p.Gone, "deleted here since"}, {p.Elsewhere, "in another mailbox here"}, {p.Flags, "with other flags than there"},
	} {
		if n.n > 0 {
			notes = append(notes, counted(n.n, "message")+" "+n.what)
		}
	}
	if p.Problem != "" {
		notes = append(notes, "it was not read to its end: "+p.Problem)
	}
	return notes
}
