package main

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Logins that were made elsewhere: hashes of other servers, and accounts that wait for their
// first login.

func elsewhereFlags(cmd *cobra.Command) {
	cmd.Flags().Bool("hash-stdin", false, "read a hash that another server made from standard input, its first line: {SHA512-CRYPT}$6$... or the like")
	cmd.Flags().Bool("waiting", false, "take the password at the first login, if the domain's former server (migrate-from) says that it is right")
	cmd.MarkFlagsMutuallyExclusive("hash-stdin", "waiting", "password-stdin")
}

// givenLogin returns the part of a request that says how an account is logged in to.
func givenLogin(cmd *cobra.Command) (map[string]any, error) {
	if on, _ := cmd.Flags().GetBool("waiting"); on {
		return map[string]any{"waiting": true}, nil
	}
	if on, _ := cmd.Flags().GetBool("hash-stdin"); on {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), maxPasswordLine)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, failed("cannot read the hash from standard input: %v", err)
		}
		if line = strings.TrimRight(line, "\r\n"); strings.TrimSpace(line) == "" {
			return nil, misused("standard input holds no hash; give it as the first line, such as {SHA512-CRYPT}$6$...")
		}
		return map[string]any{"hash": line}, nil
	}
	pw, err := givenPassword(cmd)
	return map[string]any{"password": pw}, err
}

// passwordState says how an account's password is kept.
func passwordState(scheme string, foreign, waiting bool) string {
	switch {
	case waiting:
		return "waits for the first login, with the password that the domain's former server takes"
	case foreign:
		return scheme + ", of another server; replaced by argon2id at the next login with it"
	case scheme == "":
		return "none: nobody can log in"
	}
	return scheme
}

// lowered is an address as two spellings of it are compared.
func lowered(address string) string { return strings.ToLower(address) }
