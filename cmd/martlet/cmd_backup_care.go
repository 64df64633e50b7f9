package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/backup"
)

// lookEveryStep is how often a long look at a backup tells how far it is.
const lookEveryStep = 500 * time.Millisecond

// Lines of looking a backup through.
type (
	lookLine struct {
		Event string `json:"event"`
		Step  string `json:"step"`
		Done  int64  `json:"done"`
		Total int64  `json:"total"`
		Bytes int64  `json:"bytes"`
	}
	brokenLine struct {
		Event string `json:"event"`
		File  string `json:"file,omitempty"`
		What  string `json:"what"`
	}
	lookedLine struct {
		Event     string `json:"event"`
		OK        bool   `json:"ok"`
		Snapshots int    `json:"snapshots"`
		Packs     int    `json:"packs"`
		Objects   int64  `json:"objects"`
		Bytes     int64  `json:"bytes"`
		Problems  int64  `json:"problems"`
	}
)

func verifyBackup(cmd *cobra.Command, args []string) error {
	s := newStepScreen(cmd)
	report := func(p backup.Problem) {
		what := p.What
		if p.File != "" && !s.json {
			what = p.File + ": " + what
		}
		_ = s.line(brokenLine{"problem", p.File, p.What}, backupLine{Event: "problem", What: what})
	}
	if err := becomeOwner(args[0]); err != nil {
		return err
	}
	v, err := backup.Verify(cmd.Context(), backupDisk, args[0], report, steps(s))
	s.clear()
	if err != nil {
		return notAllowed(args[0], err)
	}
	out := cmd.OutOrStdout()
	if s.json {
		err = printJSON(out, lookedLine{"done", v.Problems == 0, v.Snapshots, v.Packs, v.Objects, v.Bytes, v.Problems})
	} else {
		word := paint(out, "32", "all is whole")
		if v.Problems > 0 {
			word = paint(out, "31", counted(v.Problems, "problem"))
		}
		_, err = fmt.Fprintf(out, "%s: %s, %s, %s read\n", word, counted(int64(v.Snapshots), "snapshot"), counted(v.Objects, "object"), bytesText(v.Bytes))
	}
	if err == nil && v.Problems > 0 {
		return failed("%s found in the backup; make a new one with: martlet backup %s --full", counted(v.Problems, "problem"), args[0])
	}
	return err
}

// notAllowed says what to do if something in the folder of a backup belongs to another user.
func notAllowed(dir string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return failed("%s; user %d, as whom this runs, must own the whole backup: chown -R %d %s", describe(err), os.Geteuid(), os.Geteuid(), dir)
}

// steps returns what shows progress now and then.
func steps(s *stepScreen) func(backup.Progress) {
	var last time.Time
	step := ""
	return func(p backup.Progress) {
		if now := time.Now(); p.Step != step || now.Sub(last) >= lookEveryStep {
			last, step = now, p.Step
			_ = s.line(lookLine{"progress", p.Step, p.Done, p.Total, p.Bytes}, backupLine{Event: "progress", Step: p.Step, Done: p.Done, Total: p.Total})
		}
	}
}

// prunedLine is one snapshot that goes, or, at the end, what that has freed.
type prunedLine struct {
	Event   string     `json:"event"`
	Time    *time.Time `json:"time,omitempty"`
	Kept    int        `json:"kept,omitempty"`
	Removed int        `json:"removed,omitempty"`
	Packs   int        `json:"packs,omitempty"`
	Bytes   int64      `json:"bytes,omitempty"`
	Plan    bool       `json:"plan,omitempty"`
}

func pruneBackup(cmd *cobra.Command, args []string) error {
	var keep backup.Keep
	keep.Last, _ = cmd.Flags().GetInt("keep-last")
	keep.Days, _ = cmd.Flags().GetInt("keep-days")
	plan, _ := cmd.Flags().GetBool("plan")
	switch {
	case keep.Last < 0 || keep.Days < 0 || keep.Days > backup.MostDays:
		return misused("--keep-last is 1 or more, --keep-days is from 1 to %d", backup.MostDays)
	case keep.Last < 1 && keep.Days < 1:
		return misused("say what to keep: --keep-last N or --keep-days N, or both")
	}
	if err := becomeOwner(args[0]); err != nil {
		return err
	}
	p, err := backup.Prune(cmd.Context(), backupDisk, args[0], keep, time.Now(), plan)
	if err != nil {
		return notAllowed(args[0], err)
	}
	out := cmd.OutOrStdout()
	word := "removed"
	if plan {
		word = "would be removed"
	}
	for i := range p.Removed {
		if wantsJSON(cmd) {
			err = printJSON(out, prunedLine{Event: "removed", Time: &p.Removed[i], Plan: plan})
		} else {
			_, err = fmt.Fprintf(out, "snapshot %s %s\n", localTime(p.Removed[i]), word)
		}
		if err != nil {
			return err
		}
	}
	if wantsJSON(cmd) {
		return printJSON(out, prunedLine{Event: "done", Kept: len(p.Kept), Removed: len(p.Removed), Packs: p.Packs, Bytes: p.Bytes, Plan: plan})
	}
	_, err = fmt.Fprintf(out, "%s %s, %s kept", counted(int64(len(p.Removed)), "snapshot"), word, counted(int64(len(p.Kept)), "snapshot"))
	if err == nil && !plan {
		_, err = fmt.Fprintf(out, "; %s freed", bytesText(max(p.Bytes, 0)))
	}
	if err == nil {
		_, err = fmt.Fprintln(out)
	}
	return err
}
