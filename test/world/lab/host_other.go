//go:build !linux

package lab

import (
	"errors"
	"syscall"
)

// Nowhere else are there network namespaces; Unable says so.

func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func (h *Host) inside(func()) error { return errors.New("network namespaces are Linux's") }
