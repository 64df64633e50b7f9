package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Groups of commands, in the order of the overview.
const (
	groupRun   = "run"
	groupAdmin = "admin"
	groupCare  = "care"
	groupHelp  = "help"
)

const overview = `Martlet is a mail server in one binary: it receives mail over SMTP and LMTP, keeps
it, lets it be read over IMAP and collected over POP3, and sends it on.

To look at it, run "martlet try": it needs no configuration and listens on this
machine only. To run it for real, write a configuration file and run
"martlet serve --config FILE". Domains, accounts and aliases are not in that file;
the commands below change them, while the server runs and while it does not.

Every command takes --json for output that programs read, and --help, which ends
with examples. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.`

const overviewExamples = `  martlet try
  martlet serve --config /etc/martlet/martlet.toml
  martlet account add carol@example.org
  martlet queue list --json`

const configFlagHelp = "configuration file (default ./martlet.toml, then /etc/martlet/martlet.toml)"

// newRootCommand returns the whole command tree. It is made anew for each run, so
// that no flag survives from one to the next.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "martlet", Short: "A mail server in one binary", Long: overview, Example: overviewExamples,
		SilenceErrors: true, SilenceUsage: true,
		Args: subcommandOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asked, _ := cmd.Flags().GetBool("version"); asked {
				return sayVersion(cmd)
			}
			return cmd.Help()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().String("config", "", configFlagHelp)
	root.PersistentFlags().Bool("json", false, "print JSON: one object, or one object a line for lists and streams")
	root.Flags().Bool("version", false, "say which version this is, as martlet version does")
	root.PersistentFlags().SortFlags = false
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Running a server:"},
		&cobra.Group{ID: groupAdmin, Title: "Domains, people and their mail:"},
		&cobra.Group{ID: groupCare, Title: "Care:"},
		&cobra.Group{ID: groupHelp, Title: "About:"},
	)
	root.SetHelpCommand(newHelpCommand())
	// Families are runnable only to say what is missing.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRun, newTryCommand(), newServeCommand(), newConfigCommand())
	add(groupAdmin, newDomainCommand(), newDNSCommand(), newAccountCommand(), newAliasCommand(), newMailboxCommand(), newUndeleteCommand(), newImportCommand(), newLinkCommand(), newDiscoverCommand(), newExportCommand())
	add(groupCare, newDoctorCommand(), newQueueCommand(), newTraceCommand(), newReportsCommand(), newVerifyCommand(), newBackupCommand(), newRestoreCommand(), newStoreCommand(), newClusterCommand(), newBenchCommand())
	add(groupHelp, newVersionCommand())
	return root
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND...]", Short: "Explain a command", GroupID: groupHelp,
		Example: "  martlet help try\n  martlet help account add",
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, name := range args {
				next, _, err := at.Find([]string{name})
				if err != nil || next == at {
					return subcommandOnly(at, []string{name})
				}
				at = next
			}
			return at.Help()
		},
	}
}

// family returns a command that only holds others.
func family(name, short, long string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Long: long, Args: subcommandOnly}
	var names, examples []string
	for _, child := range children {
		c.AddCommand(child)
		names = append(names, child.Name())
		first, _, _ := strings.Cut(child.Example, "\n")
		examples = append(examples, first)
	}
	c.Example = strings.Join(examples[:min(4, len(examples))], "\n")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return misused("%s needs one of %s; see %s --help", cmd.CommandPath(), strings.Join(names, ", "), cmd.CommandPath())
	}
	return c
}

// subcommandOnly refuses arguments of a command that holds others: they are
// misspelled commands.
func subcommandOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			known = append(known, c.Name())
		}
	}
	fix := fmt.Sprintf("see %s --help", cmd.CommandPath())
	if near := nearest(args[0], known); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	}
	return misused("%s: no command %q; %s", cmd.CommandPath(), args[0], fix)
}

// arguments checks their number and says what is missing in the words of the usage
// line. most < 0 is no limit.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return misused("missing argument; usage: %s", cmd.UseLine())
		case most >= 0 && len(args) > most:
			return misused("too many arguments, first %q; usage: %s", args[most], cmd.UseLine())
		}
		return nil
	}
}
