package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// formatFlags are those of discover that write a file for a program.
func formatFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("format", "", "write a file for a program instead: "+strings.Join(format.Names(), ", "))
	f.String("name", "", "with --format: the person's name, for the From field")
	f.String("password-command", "", "with --format: command that prints the password, for programs that can run one; no file ever holds it")
	f.Bool("accept-insecure", false, "with --format: write it even if others on the way could have changed the settings, or can read the password")
}

// writesFormat tells whether a file was asked for, and writes it. What people should know of the
// answer goes to standard error, and into the file; the exit codes are those of the answer.
func writesFormat(cmd *cobra.Command, a *discover.Answer) (bool, error) {
	form, _ := cmd.Flags().GetString("format")
	if form == "" {
		return false, nil
	}
	for _, n := range a.Notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", clean(n))
	}
	if err := writable(cmd, a); err != nil {
		return true, err
	}
	out := cmd.OutOrStdout()
	screen := isTerminal(out)
	o := format.Options{Colour: screen && os.Getenv("NO_COLOR") == "", Picture: !screen, Notes: a.Notes}
	o.Name, _ = cmd.Flags().GetString("name")
	o.Command, _ = cmd.Flags().GetString("password-command")
	o.CA, _ = cmd.Flags().GetString("ca")
	of := *a
	of.Address = canonicalAddress(a)
	text, err := format.Write(form, of, o)
	switch {
	case fault.Is(err, fault.Invalid):
		return true, misused("%s", fault.Say(err))
	case fault.Is(err, fault.NotFound):
		return true, &failure{code: exitNothing, text: fault.Say(err), cause: err}
	case err != nil:
		return true, err
	}
	if _, err = out.Write(text); err != nil {
		return true, err
	}
	return true, foundCode(a)
}

// canonicalAddress is the address as programs write it, its domain as the answer has it, however
// it was typed.
func canonicalAddress(a *discover.Answer) string {
	m, err := mail.ParseAddress(strings.TrimSpace(a.Address))
	if err != nil {
		return a.Address
	}
	m.Domain = a.Domain
	return m.String()
}

// writable refuses settings by which a password would be lost without anybody noticing: a program
// that is set up asks nobody any more.
func writable(cmd *cobra.Command, a *discover.Answer) error {
	if accept, _ := cmd.Flags().GetBool("accept-insecure"); accept {
		return nil
	}
	for _, s := range a.Services {
		why := ""
		switch {
		case !isMail(s):
		case s.Security != discover.TLS && s.Security != discover.StartTLS:
			why = "has no encryption"
		case s.Insecure:
			why = "was named in a way that others could have changed"
		}
		if why != "" {
			return failed("no file is written: %s, which belongs to %s, %s %s. Compare it with what the provider says; --accept-insecure writes the file nevertheless",
				clean(s.Host), clean(owner(s.Host)), why, sourceText(s))
		}
	}
	return nil
}
