package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// version is set when the program is linked.
var version = "development"

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "lifeboat",
		Short: "Export running servers onto rotating drives, and boot them straight from one",
		Long: "Lifeboat exports running servers as encrypted, deduplicated images onto external drives,\n" +
			"and boots them straight from such a drive on any Linux host with QEMU.",
		Example:           "  lifeboat export --all --drive A\n  lifeboat boot --all --drive /mnt/lifeboat",
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           version,
		PersistentPreRunE: a.before,
		Args:              cobra.ArbitraryArgs,
		RunE:              helpOrUnknown,
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(helpTemplate)
	root.SetVersionTemplate("lifeboat {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		a.command = commandName(c)
		return usagef("%v", err)
	})

	flags := root.PersistentFlags()
	flags.StringVar(&a.stateDir, "state", a.stateDir, "folder where this control machine keeps its catalogue and identity (or LIFEBOAT_STATE)")
	flags.StringVar(&a.passphraseFile, "passphrase-file", "", "read the secret from this file; with it nothing is ever asked")
	flags.BoolVar(&a.json, "json", false, "print JSON: one document, or one line per event for long work")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "show causes and details")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no notes")
	flags.BoolVar(&a.noColor, "no-color", false, "never use colour")

	flags.StringVar(&a.toldTime, "now", "", "in a trial only: take this for the time (RFC 3339, or \"2026-11-27 17:00\")")

	root.AddGroup(
		&cobra.Group{ID: "set", Title: "Set up:"},
		&cobra.Group{ID: "keep", Title: "Every night:"},
		&cobra.Group{ID: "back", Title: "On the worst day:"},
		&cobra.Group{ID: "look", Title: "Look after it:"},
	)
	for _, build := range a.commands() {
		root.AddCommand(build)
	}
	describeCompletion(root)
	root.SetHelpCommand(helpCommand(root))
	return root
}

// helpCommand shows a command's help, and refuses what is no command; Cobra's
// own would show something else then.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show the help of a command",
		Example:     "  lifeboat help export\n  lifeboat help drive init",
		Annotations: exits(),
		RunE: func(_ *cobra.Command, words []string) error {
			c, rest, err := root.Find(words)
			if err != nil || len(rest) > 0 {
				return usagef("there is no command %q", strings.Join(words, " "))
			}
			return c.Help()
		},
	}
}

// describeCompletion gives the command that Cobra makes what all others have:
// examples, exit codes, and a refusal of what it does not know.
func describeCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	c, _, err := root.Find([]string{"completion"})
	if err != nil {
		return
	}
	c.Example = "  lifeboat completion bash > /etc/bash_completion.d/lifeboat\n  lifeboat completion zsh > /usr/share/zsh/site-functions/_lifeboat"
	c.Args, c.RunE = cobra.ArbitraryArgs, helpOrUnknown
	for _, shell := range c.Commands() {
		shell.Example = fmt.Sprintf("  lifeboat completion %s > lifeboat.%s\n  lifeboat completion %s --no-descriptions", shell.Name(), shell.Name(), shell.Name())
		shell.Annotations, shell.Args = exits(), noArgs
	}
}

// commands lists every command, in the order that help shows them.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.initCommand(), a.hostCommand(), a.machineCommand(), a.driveCommand(), a.rotateCommand(),
		a.exportCommand(), a.copyCommand(), a.pointCommand(), a.pruneCommand(), a.verifyCommand(), a.repairCommand(),
		a.runbookCommand(), a.drillCommand(), a.recoverCommand(), a.bootCommand(), a.restoreCommand(), a.psCommand(), a.stopCommand(), a.consoleCommand(),
		a.runCommand(), a.catalogCommand(), a.keyCommand(), a.manCommand(), a.versionCommand(),
		a.diskServerCommand(), a.superviseCommand(), a.receiverCommand(), a.labCommand(), a.labGuardCommand(),
	}
}

// before runs ahead of every command.
func (a *app) before(c *cobra.Command, _ []string) error {
	a.command = commandName(c)
	a.setZone()
	return a.setClock(c)
}

// commandName is the command without the program's name: "drive init".
func commandName(c *cobra.Command) string {
	return strings.TrimPrefix(c.CommandPath(), "lifeboat ")
}

// help opens with the examples and ends with the exit codes.
const helpTemplate = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}Usage:
{{- if .Runnable}}
  {{.UseLine}}{{end}}
{{- if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}
{{if .HasAvailableSubCommands}}{{$c := .}}{{if .Groups}}{{range $g := .Groups}}
{{.Title}}{{range $c.Commands}}{{if (and (eq .GroupID $g.ID) .IsAvailableCommand)}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{end}}
Also:{{range .Commands}}{{if (and (eq .GroupID "") .IsAvailableCommand)}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{else}}
Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{end}}{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableInheritedFlags}}
Flags of every command:
{{.InheritedFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}
{{end}}{{with index .Annotations "exits"}}
Exit codes:
{{.}}
{{end}}`

// exits is the annotation that ends a command's help with its exit codes.
func exits(codes ...int) map[string]string {
	codes = append([]int{exitDone, exitFailed, exitUsage}, codes...)
	slices.Sort(codes)
	var lines []string
	for _, code := range slices.Compact(codes) {
		lines = append(lines, fmt.Sprintf("  %-4d %s", code, exitMeanings[code]))
	}
	return map[string]string{"exits": strings.Join(lines, "\n")}
}

// noArgs, exactArgs and oneArgAtMost say what is wrong in words.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, and got %q", commandName(c), args[0])
	}
	return nil
}

func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usagef("%s takes %s", commandName(c), strings.Join(names, " and "))
		}
		return nil
	}
}

func oneArgAtMost(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("%s takes %s and no more, and got %d words", commandName(c), name, len(args))
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short, example, id string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Example: example, GroupID: id,
		Args: cobra.ArbitraryArgs, RunE: helpOrUnknown,
	}
	c.AddCommand(sub...)
	return c
}

// helpOrUnknown is what a command does that only holds others.
func helpOrUnknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	var others []string
	for _, group := range c.Commands() {
		for _, sub := range group.Commands() {
			if sub.Name() == args[0] {
				others = append(others, sub.CommandPath())
			}
		}
	}
	if len(others) > 0 {
		return usagef("%s has no command %q; there is: %s", commandName(c), args[0], list(others))
	}
	return usagef("%s has no command %q", commandName(c), args[0])
}
