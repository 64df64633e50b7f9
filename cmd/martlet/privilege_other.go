//go:build !unix

package main

import "github.com/martlet-mail/martlet/internal/conf"

// giveUpRoot has nothing to give up.
func giveUpRoot(*conf.Config) error { return nil }
