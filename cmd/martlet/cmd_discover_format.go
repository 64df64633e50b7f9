package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/fault"
)

// formatFlags are those of discover that write a file for a program.
func formatFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("format", "", "write a file for a program instead: "+strings.Join(format.Names(), ", "))
	f.String("name", "", "with --format: the person's name, for the From field")
	f.String("password-command", "", "with --format: command that prints the password, for programs that can run one; no file ever holds it")
}

// writesFormat tells whether a file was asked for, and writes it.
func writesFormat(cmd *cobra.Command, a discover.Answer) (bool, error) {
	form, _ := cmd.Flags().GetString("format")
	if form == "" {
		return false, nil
	}
	out := cmd.OutOrStdout()
	screen := isTerminal(out)
	o := format.Options{Colour: screen && os.Getenv("NO_COLOR") == "", Picture: !screen}
	o.Name, _ = cmd.Flags().GetString("name")
	o.Command, _ = cmd.Flags().GetString("password-command")
	o.CA, _ = cmd.Flags().GetString("ca")
	text, err := format.Write(form, a, o)
	if fault.Is(err, fault.Invalid) {
		return true, misused("%s", fault.Say(err))
	}
	if err != nil {
		return true, err
	}
	_, err = out.Write(text)
	return true, err
}
