package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Exit codes, the same for every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
)

// failure is an error whose text is for the person at the terminal: what went
// wrong, where, and how to put it right, in one line.
type failure struct {
	code  int
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// failed returns a failure that ends with exit code 1.
func failed(format string, args ...any) error {
	return &failure{code: exitFailed, text: fmt.Sprintf(format, args...)}
}

// misused returns a failure that ends with exit code 2.
func misused(format string, args ...any) error {
	return &failure{code: exitUsage, text: fmt.Sprintf(format, args...)}
}

// misconfigured gives an error about the configuration exit code 2.
func misconfigured(err error) error {
	if err == nil {
		return nil
	}
	return &failure{code: exitUsage, text: describe(err), cause: err}
}

// report writes what err says to w and returns the exit code.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	var faults conf.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			fmt.Fprintln(w, f)
		}
		return exitUsage
	}
	code, text := exitFailed, describe(err)
	var f *failure
	if errors.As(err, &f) {
		code = f.code
	} else if isUsage(err) {
		code = exitUsage
	}
	if code == exitUsage && cmd != nil && !strings.Contains(text, "--help") && f == nil {
		text += fmt.Sprintf("; see %s --help", cmd.CommandPath())
	}
	if text != "" {
		fmt.Fprintf(w, "martlet: %s\n", text)
	}
	return code
}

// describe returns an error in one line. Whoever runs commands here may see causes.
func describe(err error) string {
	var f *failure
	if errors.As(err, &f) {
		return oneLine(f.text)
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	var e *fault.Error
	if !errors.As(err, &e) {
		return oneLine(err.Error())
	}
	text := e.Say
	if text == "" {
		text = e.Kind.String()
	}
	for e.Cause != nil {
		var inner *fault.Error
		if !errors.As(e.Cause, &inner) {
			if !strings.Contains(text, e.Cause.Error()) {
				text += ": " + e.Cause.Error()
			}
			break
		}
		if inner.Say != "" && !strings.Contains(text, inner.Say) {
			text += ": " + inner.Say
		}
		e = inner
	}
	return oneLine(text)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// isUsage tells cobra's own complaints, which have no type, from other errors.
func isUsage(err error) bool {
	var notFlag *pflag.NotExistError
	var noValue *pflag.ValueRequiredError
	var badValue *pflag.InvalidValueError
	var badSyntax *pflag.InvalidSyntaxError
	if errors.As(err, &notFlag) || errors.As(err, &noValue) || errors.As(err, &badValue) || errors.As(err, &badSyntax) {
		return true
	}
	for _, start := range []string{"accepts ", "requires at least", "requires at most", "unknown command", "unknown flag",
		"unknown shorthand", "required flag", "invalid argument", "if any flags in the group", "flag needs"} {
		if strings.HasPrefix(err.Error(), start) {
			return true
		}
	}
	return false
}

// flagError names the nearest flag to one that does not exist.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return misused("%s: %s; see %s --help", cmd.CommandPath(), oneLine(err.Error()), cmd.CommandPath())
	}
	if unknown.GetSpecifiedShortnames() != "" {
		return misused("%s: no flag -%s; see %s --help", cmd.CommandPath(), unknown.GetSpecifiedName(), cmd.CommandPath())
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	name := unknown.GetSpecifiedName()
	if near := nearest(name, known); near != "" {
		return misused("%s: no flag --%s; did you mean --%s?", cmd.CommandPath(), name, near)
	}
	return misused("%s: no flag --%s; see %s --help", cmd.CommandPath(), name, cmd.CommandPath())
}
