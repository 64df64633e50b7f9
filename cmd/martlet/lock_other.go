//go:build !unix

package main

func lockHolder(string) int { return 0 }

func otherOwner(string) string { return "" }
