//! A site and its server prove themselves to each other, over the one connection that is used then.
//!
//! ```text
//!   release ─▶ first question: connects ─▶ hold ─▶ server's evidence ─▶ own evidence ─▶ anything else
//! ```

use privet_core::admission::Unproved;

use super::*;

/// Times that an exchange of evidence is begun anew where it was not looked at.
const EXCHANGES: u32 = 4;

/// Who judges the server for this site, and who proves things to it.
pub(super) fn open_attestation(
    parts: &Parts,
    kit: &Path,
    identity: &Identity,
    gate: &SiteGate,
    required: Option<Required>,
) -> Result<Attestation, Reason> {
    let attest = &gate.policy().attest;
    (parts.attestation)(Opening {
        role: Role::Site,
        kit,
        identity,
        roster: &[],
        folder: &attest.folder,
        show: &attest.show,
        required,
        audit: Some(gate.audit()),
    })
}

fn refused_by_server(code: Code) -> Reason {
    Reason::new(code, "the server does not take this site's evidence")
}

impl Agent<'_> {
    /// Has the server prove what it runs, if this site asks for that, and then proves it itself, if the server does.
    /// A refusal of either is no failure of the site.
    pub(super) async fn attest(&mut self, run: &str) -> Result<Result<(), Reason>, SiteError> {
        run.clone_into(&mut self.run);
        let since = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            match self.exchange().await {
                Err(WireError::Unreachable(why))
                    if since.elapsed() < PATIENCE && !self.cancel.is_cancelled() =>
                {
                    (self.observer)(&Event::Retrying(why));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                other => return Ok(other?),
            }
        }
    }

    /// The same once, over a connection that nothing else goes over before, and no other after.
    pub(super) async fn exchange(&mut self) -> Result<Result<(), Reason>, WireError> {
        for _ in 0..EXCHANGES {
            if let Some(done) = self.exchange_once().await? {
                return Ok(done);
            }
        }
        let detail = "evidence came too late each time, or could not be kept";
        Ok(Err(Reason::new(Code::NotAttested, detail)))
    }

    /// `None` where evidence was not looked at, so that it may be tried again.
    async fn exchange_once(&mut self) -> Result<Option<Result<(), Reason>>, WireError> {
        let (client, run) = (self.client.clone(), self.run.clone());
        let refused = |reason| Ok(Some(Err(reason)));
        // The first question makes the connection that all of it is bound to.
        client.release();
        let first = client.ask_to_attest(&run, None).await;
        client.hold();
        let mut asked = match first {
            Ok((_, asked)) => asked,
            Err(WireError::Refused(code)) => return refused(refused_by_server(code)),
            Err(error) => return Err(error),
        };
        let Attestation { admission, attester } = self.attestation.clone();
        let Some(server) = client.server() else { return Ok(None) };
        let posed = match admission.challenge(&server, &run) {
            Ok(posed) => posed,
            Err(reason) => return refused(reason),
        };
        if let Some(challenge) = posed {
            let (evidence, again) = match client.ask_to_attest(&run, Some(challenge)).await {
                Ok(answered) => answered,
                Err(WireError::Refused(code)) => {
                    return refused(Reason::new(code, "the server shows nothing of itself"));
                }
                Err(error) => return Err(error),
            };
            asked = again;
            let proved = tokio::task::block_in_place(|| {
                admission.prove(&server, &run, &challenge, &evidence)
            });
            match proved {
                Ok(()) => {}
                Err(Unproved::Again(_)) => return Ok(None),
                Err(Unproved::Refused(reason)) => return refused(reason),
            }
        }
        let Some(challenge) = asked else { return Ok(Some(Ok(()))) };
        let Some(attester) = attester else {
            let detail =
                "the server asks this site to attest, and its policy's [attest] shows nothing";
            return refused(Reason::new(Code::NotAttested, detail));
        };
        let shown = tokio::task::block_in_place(|| {
            let evidence = attester.attest(&server, &run, &challenge)?;
            self.gate.evidence(&server.name, &run, evidence)?.handover()
        });
        let parcel = match shown {
            Ok(parcel) => parcel,
            Err(reason) => return refused(reason),
        };
        match client.attest(&run, &challenge, &parcel).await {
            Ok(None) => Ok(Some(Ok(()))),
            Ok(Some(_)) => Ok(None),
            Err(WireError::Refused(code)) => refused(refused_by_server(code)),
            Err(error) => Err(error),
        }
    }

    /// Proves anew where the server's evidence has become too old, or was of another connection.
    pub(super) async fn renewed(&mut self, job: &str) -> Result<Result<(), Reason>, SiteError> {
        let admission = &self.attestation.admission;
        let fresh = self.client.server().is_some_and(|server| {
            !admission.due(&server) && admission.judge(Moment::Job, &server).is_ok()
        });
        if fresh { Ok(Ok(())) } else { self.attest(job).await }
    }

    pub(super) async fn unattested(
        &mut self,
        reason: Reason,
        stage: Stage,
        job: Option<&str>,
    ) -> Result<Ended, SiteError> {
        let refusal = Refusal::new(&self.gate.policy().site, stage, reason);
        self.refuse(&refusal, job).await?;
        Ok(Ended::Refused(refusal))
    }
}
