package main

import (
	"fmt"

	"lifeboat"
)

// confirm shows what is about to happen and asks.
func (a *app) confirm(yes bool, plan string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.stdin) {
		return &lifeboat.Problem{
			What: "a person has to say yes to this, and none is here: " + oneLine(plan),
			Safe: "nothing was done",
			Next: "if that is meant, run it again with --yes",
			Err:  errNeedsPerson,
		}
	}
	fmt.Fprintf(a.stderr, "%sGo on? Type yes: ", plan)
	var answer string
	if _, err := fmt.Fscanln(a.stdin, &answer); err != nil || answer != "yes" {
		return &lifeboat.Problem{What: "not confirmed", Safe: "nothing was done", Next: "run the command again and type yes", Err: errNeedsPerson}
	}
	return nil
}
