package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/node/api"
	"souk/node/core/operator"
)

func operatorCommand(e *env) *cobra.Command {
	return noun("operator", "Invite, vet and keep the bank of a market",
		inviteCommand(e), queueCommand(e), applicantCommand(e), approveCommand(e), rejectCommand(e),
		sanctionCommand(e, "suspend", "Suspend a member: no new leases until it is reinstated"),
		sanctionCommand(e, "reinstate", "Lift a suspension"),
		sanctionCommand(e, "revoke", "Revoke a member for good"),
		depositCommand(e), accountsCommand(e), statementCommand(e), operatorPayoutCommand(e), membersCommand(e))
}

func inviteCommand(e *env) *cobra.Command {
	var i api.Inviting
	var life spanValue
	var maxGPUs uint32
	create := &cobra.Command{
		Use: "create --role host|consumer", Short: "Make an invite; its code is shown once", Args: cobra.NoArgs,
		Example: "  souk operator invite create --role host --tier community --max-gpus 8 --expires 7d",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			if i.Role == "" {
				return usageError("", "say --role host or --role consumer")
			}
			i.Secret, i.Seconds, i.MaxGPUs = newID(), int64(time.Duration(life)/time.Second), maxGPUs
			v, err := c.Invite(ctx, i)
			if err != nil {
				return err
			}
			return e.showInvitation(v)
		}),
	}
	f := create.Flags()
	f.StringVar(&i.Role, "role", "", "host or consumer")
	f.StringVar(&i.Tier, "tier", "", "of a host: community or secure (default community)")
	f.Uint32Var(&maxGPUs, "max-gpus", 0, "of a host: most GPUs it may offer (default 64)")
	f.Var(&life, "expires", "how long the code can be used (default 7d)")
	f.StringArrayVar(&i.Addrs, "addr", nil, "multiaddr where this operator can be reached, more than once (default where it listens)")
	f.StringVar(&i.Note, "note", "", "for your own list of invites")
	ls := &cobra.Command{
		Use: "ls", Short: "Every invite, the newest first", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Invites(ctx)
			if err != nil {
				return err
			}
			return inviteList(e).show(e, list)
		}),
	}
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "Take an invite back that nobody has used", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.RevokeInvite(ctx, args[0])
			if err != nil {
				return err
			}
			return inviteList(e).show(e, []operator.InviteView{v})
		}),
	}
	return noun("invite", "Codes that let newcomers join", create, ls, revoke)
}

// showInvitation prints the code alone on standard output, for a script or a mail; what it is for goes beside it.
func (e *env) showInvitation(v operator.Invitation) error {
	if !e.plain() {
		return e.one(v, v.Code)
	}
	what := v.Role
	if v.Role == "host" {
		what += fmt.Sprintf(", %s, up to %d GPUs", v.Tier, v.MaxGPUs)
	}
	e.note("invite %s: %s, once, until %s; whoever has the code can use it", v.ID, what, v.Expires)
	_, err := fmt.Fprintln(e.out, v.Code)
	return err
}

func inviteList(e *env) listing[operator.InviteView] {
	return listing[operator.InviteView]{
		key: func(v operator.InviteView) string { return v.ID },
		columns: []column[operator.InviteView]{
			{head: "ID", of: func(v operator.InviteView) string { return v.ID }},
			{head: "STATE", of: func(v operator.InviteView) string { return v.State }},
			{head: "ROLE", of: func(v operator.InviteView) string { return v.Role }},
			{head: "TIER", of: func(v operator.InviteView) string { return v.Tier }},
			{head: "MAX GPUS", right: true, of: func(v operator.InviteView) string { return count(v.MaxGPUs) }},
			{head: "EXPIRES", of: func(v operator.InviteView) string { return v.Expires.String() }},
			{head: "USED BY", of: func(v operator.InviteView) string { return who(v.By, "") }},
			{head: "NOTE", of: func(v operator.InviteView) string { return v.Note }},
			{head: "CREATED", wide: true, of: func(v operator.InviteView) string { return v.Created.String() }},
		},
	}
}

// count is a number for people; none is a dash.
func count[T ~uint32 | ~uint64 | ~uint16 | ~int | ~int64](n T) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func queueCommand(e *env) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "queue", Short: "Who waits for approval, the longest first", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Applicants(ctx, all)
			if err != nil {
				return err
			}
			if len(list) == 0 && e.plain() {
				e.note("nobody waits")
				return nil
			}
			return applicantList(e).show(e, list)
		}),
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "those who were decided on too")
	return c
}

func applicantList(e *env) listing[operator.ApplicantView] {
	return listing[operator.ApplicantView]{
		key: func(v operator.ApplicantView) string { return v.Address.String() },
		columns: []column[operator.ApplicantView]{
			{head: "ADDRESS", of: func(v operator.ApplicantView) string { return v.Address.String() }},
			{head: "ALIAS", of: func(v operator.ApplicantView) string { return v.Alias }},
			{head: "ROLE", of: func(v operator.ApplicantView) string { return v.Role }},
			{head: "STATE", of: func(v operator.ApplicantView) string { return v.State }},
			{head: "GPUS", of: func(v operator.ApplicantView) string { return summary(v.Devices) }},
			{head: "WARNINGS", right: true, of: func(v operator.ApplicantView) string { return count(len(v.Warnings)) }},
			{head: "ASKED", of: func(v operator.ApplicantView) string { return e.ago(v.Asked) }},
		},
	}
}

// summary counts GPUs by model.
func summary(ds []operator.DeviceView) string {
	var parts []string
	for i, d := range ds {
		first, n := true, uint16(0)
		for j, o := range ds {
			if o.Model == d.Model && o.Simulated == d.Simulated {
				n++
				first = first && j >= i
			}
		}
		if first {
			parts = append(parts, model(n, d.Model, d.Simulated))
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}

func applicantCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show ADDR", Short: "All that is known of an applicant or member", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.Applicant(ctx, args[0])
			if err != nil {
				return err
			}
			return e.showApplicant(v)
		}),
	}
}

func (e *env) showApplicant(v operator.ApplicantView) error {
	m := v.Machine
	facts := []fact{
		{"address", v.Address.String()}, {"alias", v.Alias}, {"role", v.Role}, {"state", v.State}, {"reason", v.Reason},
	}
	if v.Asked > 0 {
		facts = append(facts, fact{"asked", v.Asked.String()}, fact{"gpus", summary(v.Devices)})
	}
	if v.Decided > 0 {
		facts = append(facts, fact{"decided", v.Decided.String()})
	}
	if m.Cores > 0 {
		facts = append(facts,
			fact{"machine", fmt.Sprintf("%s, %d cores, %s memory, %d GiB disk, %s", m.CPU, m.Cores, showBytes(uint64(m.MemoryMiB)<<20), m.DiskGiB, m.OS)},
			fact{"engine", strings.TrimSpace(m.Runtime + " " + m.Engine)})
	}
	if m.Driver != "" {
		facts = append(facts, fact{"driver", m.Driver + ", CUDA " + m.CUDA})
	}
	if i := v.Invite; i != nil {
		facts = append(facts, fact{"invite", strings.TrimSpace(fmt.Sprintf("%s, %s, tier %s, up to %d GPUs %s", i.ID, i.Role, i.Tier, i.MaxGPUs, i.Note))})
	}
	if c := v.Member; c != nil {
		facts = append(facts, fact{"member", fmt.Sprintf("%s, %s, tier %s, credential %d until %s", c.Standing, c.Roles, c.Tier, c.Serial, c.NotAfter)})
	}
	if s := v.Sanction; s != nil {
		facts = append(facts, fact{"sanction", fmt.Sprintf("%s at %s: %s", s.Sanction, s.At, s.Reason)})
	}
	for _, w := range v.Warnings {
		facts = append(facts, fact{"warning", w})
	}
	if err := e.one(v, v.Address.String(), facts...); err != nil || !e.plain() || len(v.Checks) == 0 {
		return err
	}
	fmt.Fprintln(e.out)
	return checkList().show(e, v.Checks)
}

func checkList() listing[operator.CheckView] {
	return listing[operator.CheckView]{
		key: func(v operator.CheckView) string { return v.Name },
		columns: []column[operator.CheckView]{
			{head: "CHECK", of: func(v operator.CheckView) string { return v.Name }},
			{head: "OK", of: func(v operator.CheckView) string { return yesNo(v.OK) }},
			{head: "FOUND", of: func(v operator.CheckView) string { return v.Detail }},
		},
	}
}

func approveCommand(e *env) *cobra.Command {
	var d api.Decision
	c := &cobra.Command{
		Use: "approve ADDR", Short: "Make an applicant a member, or change a member's tier, alias or limit", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.Approve(ctx, args[0], d)
			if err != nil {
				return err
			}
			return memberList(e).show(e, []operator.MemberView{v})
		}),
	}
	c.Flags().StringVar(&d.Tier, "tier", "", "of a host: community or secure (default as its invite says)")
	c.Flags().StringVar(&d.Alias, "alias", "", "another name for it")
	c.Flags().Uint32Var(&d.MaxGPUs, "max-gpus", 0, "most GPUs it may offer (default as its invite says)")
	return c
}

func rejectCommand(e *env) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "reject ADDR --reason TEXT", Short: "Turn an applicant away", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.Reject(ctx, args[0], reason)
			if err != nil {
				return err
			}
			return applicantList(e).show(e, []operator.ApplicantView{v})
		}),
	}
	c.Flags().StringVar(&reason, "reason", "", "told to the applicant")
	return c
}

func sanctionCommand(e *env, verb, short string) *cobra.Command {
	var d api.Decision
	var yes bool
	c := &cobra.Command{
		Use: verb + " ADDR --reason TEXT", Short: short, Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			if d.Reason == "" {
				return usageError("", "say --reason: every member can read it")
			}
			if verb == "revoke" {
				if err := e.agree(ctx, yes, fmt.Sprintf("Revoke %s for good? Its connections end, its own bank account and running pods included; suspend keeps these.", args[0])); err != nil {
					return err
				}
			}
			v, err := c.Sanction(ctx, args[0], verb, d)
			if err != nil {
				return err
			}
			return e.one(v, v.Subject.String(), fact{"member", v.Subject.String()}, fact{"is", v.Sanction}, fact{"number", strconv.FormatUint(v.Number, 10)},
				fact{"reason", v.Reason}, fact{"at", v.At.String()})
		}),
	}
	c.Flags().StringVar(&d.Reason, "reason", "", "why; every member can read it")
	if verb == "revoke" {
		c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
		c.Flags().BoolVar(&d.Fraud, "fraud", false, "for proven fraud: running leases end too")
	}
	return c
}

func membersCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "members", Short: "Every member", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Members(ctx)
			if err != nil {
				return err
			}
			return memberList(e).show(e, list)
		}),
	}
}

func memberList(e *env) listing[operator.MemberView] {
	return listing[operator.MemberView]{
		key: func(v operator.MemberView) string { return v.Address.String() },
		columns: []column[operator.MemberView]{
			{head: "ADDRESS", of: func(v operator.MemberView) string { return v.Address.String() }},
			{head: "ALIAS", of: func(v operator.MemberView) string { return v.Alias }},
			{head: "ROLES", of: func(v operator.MemberView) string { return v.Roles }},
			{head: "TIER", of: func(v operator.MemberView) string { return v.Tier }},
			{head: "MAX GPUS", right: true, of: func(v operator.MemberView) string { return count(v.MaxGPUs) }},
			{head: "STANDING", of: func(v operator.MemberView) string { return v.Standing }},
			{head: "UNTIL", of: func(v operator.MemberView) string { return v.NotAfter.String() }},
			{head: "SERIAL", right: true, wide: true, of: func(v operator.MemberView) string { return strconv.FormatUint(v.Serial, 10) }},
			{head: "OWNER", wide: true, of: func(v operator.MemberView) string { return who(v.Owner, "") }},
		},
	}
}

func depositCommand(e *env) *cobra.Command {
	var ref string
	c := &cobra.Command{
		Use: "deposit ADDR AMOUNT --ref REF", Short: "Enter money that came in; the same reference again changes nothing", Args: cobra.ExactArgs(2),
		Example: "  souk operator deposit 0x52908400 25 --ref bank-transfer-1",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			amount, err := ledger.ParseAmount(args[1])
			switch {
			case err != nil:
				return usageError("", "%s", trim(err))
			case ref == "":
				return usageError("", "say --ref: what the payment is known by outside")
			}
			v, err := c.Deposit(ctx, api.Payment{Account: args[0], Amount: amount, Ref: ref})
			if err != nil {
				return err
			}
			return e.one(v, v.Account.String(), fact{"account", v.Account.String()}, fact{"alias", v.Alias}, fact{"credits", money(v.Amount)},
				fact{"reference", v.Ref}, fact{"entry", strconv.FormatUint(v.Entry, 10)}, fact{"at", v.At.String()})
		}),
	}
	c.Flags().StringVar(&ref, "ref", "", "of the payment outside, as in bank-transfer-1")
	return c
}

func accountsCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "accounts", Short: "Every account of the bank, and what they add up to", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Accounts(ctx)
			if err != nil {
				return err
			}
			if err := accountList().show(e, list); err != nil || !e.plain() {
				return err
			}
			h, err := c.Height(ctx)
			if err != nil {
				return err
			}
			e.note("%s; deposits %s = available %s + reserved %s + payable %s + paying %s + paid out %s + fees %s", plural(int(h.Entries), "entry", "entries"),
				money(h.Deposited), money(h.Available), money(h.Reserved), money(h.Payable), money(h.Paying), money(h.PaidOut), money(h.Fees))
			return nil
		}),
	}
}

func accountList() listing[operator.AccountView] {
	type view = operator.AccountView
	return listing[view]{
		key: func(v view) string { return v.Account.String() },
		columns: []column[view]{
			{head: "ACCOUNT", of: func(v view) string { return v.Account.String() }},
			{head: "ALIAS", of: func(v view) string { return v.Alias }},
			{head: "DEPOSITED $", right: true, of: func(v view) string { return money(v.Deposited) }},
			{head: "AVAILABLE $", right: true, of: func(v view) string { return money(v.Available) }},
			{head: "RESERVED $", right: true, of: func(v view) string { return money(v.Reserved) }},
			{head: "PAYABLE $", right: true, of: func(v view) string { return money(v.Payable) }},
			{head: "SETTLED $", right: true, of: func(v view) string { return money(v.Settled) }},
			{head: "BURN $/h", right: true, of: func(v view) string { return price(v.Burn) }},
			{head: "EARNED $", right: true, wide: true, of: func(v view) string { return money(v.Earned) }},
			{head: "PAID OUT $", right: true, wide: true, of: func(v view) string { return money(v.PaidOut) }},
			{head: "FEES $", right: true, wide: true, of: func(v view) string { return money(v.Fees) }},
		},
	}
}
