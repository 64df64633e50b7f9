package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/doctor"
)

func newDoctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor [DOMAIN]", Short: "Find what keeps mail from coming, arriving or being trusted",
		Long: `Looks at the server from all sides: names and addresses, the DNS records of each domain (or
of the one named), ports, certificates, signatures, policies, blocklists, clock, disk, queue;
and sends a message to itself. Each check says ok, warn, fail or skipped, why, and the exact
record or command that mends it. A check that cannot run is skipped, and stops no other.

Run it while the server runs. Exit code 1 if any check fails; warnings do not count. With
--json each check is one line: {"check":...,"status":...,"why":...,"fix":...}.`,
		Example: `  martlet doctor
  martlet doctor example.org --problems
  martlet doctor --json | jq 'select(.status == "fail")'`,
		Args: arguments(0, 1), RunE: runDoctor,
	}
	cmd.Flags().Bool("problems", false, "show only what is not ok")
	return cmd
}

func runDoctor(cmd *cobra.Command, args []string) error {
	domain := ""
	if len(args) == 1 {
		domain = args[0]
	}
	problems, _ := cmd.Flags().GetBool("problems")
	cl, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer cl.close()
	out := cmd.OutOrStdout()
	counts := map[doctor.Status]int64{}
	err = cl.do(cmd.Context(), "POST", "/v1/doctor", map[string]string{"domain": domain}, func(raw json.RawMessage) error {
		var l doctor.Line
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		counts[l.Status]++
		switch {
		case wantsJSON(cmd):
			return printJSON(out, raw)
		case !problems, l.Status == doctor.Warn, l.Status == doctor.Fail:
			progress(cmd.ErrOrStderr(), "")
			return showLine(out, l)
		}
		progress(cmd.ErrOrStderr(), l.Check)
		return nil
	})
	progress(cmd.ErrOrStderr(), "")
	if err != nil {
		return err
	}
	if !wantsJSON(cmd) {
		fmt.Fprintf(out, "%d ok, %d skipped, %s, %s\n", counts[doctor.OK], counts[doctor.Skipped],
			paint(out, colours[doctor.Warn], counted(counts[doctor.Warn], "warning")), paint(out, colours[doctor.Fail], counted(counts[doctor.Fail], "failure")))
	}
	if n := counts[doctor.Fail]; n > 0 {
		return failed("%s failed; what mends it stands behind \"fix\"", counted(n, "check"))
	}
	return nil
}

var colours = map[doctor.Status]string{doctor.OK: "32", doctor.Warn: "33", doctor.Fail: "31", doctor.Skipped: "2"}

func showLine(w io.Writer, l doctor.Line) error {
	_, err := fmt.Fprintf(w, "%s  %s: %s\n", paint(w, colours[l.Status], fmt.Sprintf("%-7s", l.Status)), clean(l.Check), clean(l.Why))
	if err == nil && l.Fix != "" {
		_, err = fmt.Fprintf(w, "         fix: %s\n", clean(l.Fix))
	}
	return err
}

// progress shows on a terminal what was looked at last.
func progress(w io.Writer, what string) {
	if isTerminal(w) {
		fmt.Fprintf(w, "\r\x1b[K%s", clean(what))
	}
}
