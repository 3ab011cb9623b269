//! Runs the steps of a build plan: each in an instance of the engine whose image is what it builds upon.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ekiden_build::plan::{APPLICATION_DIR, From, Input, Step};
use ekiden_engine::{
    Engine, EngineError, ImageRecipe, LOG_LINES_MAX, LogQuery, LogStream, MadeImage,
};
use ekiden_model::{
    id::{InstanceId, ServiceId},
    image::{Digest, ImageConfig, LOCAL_REGISTRY},
    instance::{
        BuildOptions, ExitCause, InstanceSpec, InstanceState, Limits, RevisionNumber, UserNamespace,
    },
    name::ServiceName,
    secret_env::SecretEnv,
};
use ekiden_store::{Store, builds::BuildStep};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{Active, BuildError, log::OpenLog};
use crate::clock;

/// How often the log of a step is read.
const LOG_EVERY: Duration = Duration::from_millis(100);

/// How long the engine's observation may take to show an instance that was started.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);

/// How long an instance that builds has to end when its time is over.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// Lines about an image that is made which wait for the log.
const LINES_WAITING_MAX: usize = 64;

/// Part of the image that has the application: the last name of [`APPLICATION_DIR`].
const PART: &str = "app";

/// Runs each argument by a shell of its own, says it first, and ends with the first that fails.
const DRIVER: &str = r#"for command in "$@"; do
  printf '$ %s\n' "$command"
  /bin/sh -c "$command"
  status=$?
  if [ $status -ne 0 ]; then
    printf 'exit code %s\n' "$status" >&2
    exit $status
  fi
done"#;

/// What all steps of a build have in common.
pub(super) struct Steps<'a, E> {
    pub(super) engine: &'a Arc<E>,
    pub(super) store: &'a Store,
    pub(super) active: &'a Arc<Active>,
    /// Told when there is another image to be kept.
    pub(super) images_changed: &'a Notify,
    pub(super) log: &'a OpenLog,
    pub(super) service: ServiceId,
    pub(super) service_name: &'a ServiceName,
    pub(super) base: Digest,
    pub(super) base_env: &'a [String],
    pub(super) working_dir: &'a str,
    pub(super) limits: Limits,
    pub(super) cache_bytes_max: u64,
    /// The newest time that a file of the source has.
    pub(super) epoch: u64,
    pub(super) secrets: &'a SecretEnv,
    pub(super) deadline: Instant,
    /// Whether what steps made before is taken.
    pub(super) reuse: bool,
}

/// What a step has made.
#[derive(Debug, Clone, Copy)]
struct Done {
    /// What it ran on, with its input.
    on: Digest,
    left: BuildStep,
}

impl<E: Engine> Steps<'_, E> {
    /// Runs them all; answers the image that `wanted` is. `input` makes an image of what a step is given
    /// of the source.
    pub(super) async fn run<F>(
        &self,
        steps: &[Step],
        wanted: From,
        config: ImageConfig,
        input: impl Fn(Input) -> F,
    ) -> Result<MadeImage, BuildError>
    where
        F: Future<Output = Result<Option<(Digest, u64)>, BuildError>>,
    {
        let mut done: Vec<Option<Done>> = Vec::new();
        for step in steps {
            let (mut under, has_source) = self.under(step.on, steps, &done)?;
            let mut epoch = self.epoch;
            if !(has_source && step.input == Input::Source)
                && let Some((given, of)) = input(step.input.clone()).await?
            {
                under.push(given);
                epoch = of;
            }
            let on = self.stack(&under, ImageConfig::default()).await?;
            done.push(self.step(step, on, epoch).await?);
        }
        let (images, _) = self.under(wanted, steps, &done)?;
        self.made(ImageRecipe::Stack { images, config }).await
    }

    /// The images that something is on, and whether the source is among them.
    fn under(
        &self,
        from: From,
        steps: &[Step],
        done: &[Option<Done>],
    ) -> Result<(Vec<Digest>, bool), BuildError> {
        let find = |index: usize| {
            let made = done.get(index).copied().flatten();
            let made = made.ok_or_else(|| {
                BuildError::Failed("the plan of the build is broken: report this".to_owned())
            })?;
            Ok::<_, BuildError>((made, has_source(steps, index)))
        };
        Ok(match from {
            From::Base => (vec![self.base], false),
            From::Step(index) => {
                let (made, has_source) = find(index)?;
                (vec![made.left.image], has_source)
            }
            From::Application(index) => {
                let (made, has_source) = find(index)?;
                let images = [Some(made.on), made.left.part].into_iter().flatten();
                (images.collect(), has_source)
            }
        })
    }

    /// Runs one step, unless it was run before with all the same.
    async fn step(&self, step: &Step, on: Digest, epoch: u64) -> Result<Option<Done>, BuildError> {
        if step.commands.is_empty() {
            let left = BuildStep {
                on,
                image: on,
                part: None,
            };
            return Ok(Some(Done { on, left }));
        }
        let key = self.key(step, on, epoch);
        if self.reuse
            && let Some(left) = self
                .store
                .build_step(self.service, &key, clock::now())
                .await?
            && self.is_here(left).await
        {
            self.log
                .say(format!("{}: nothing it depends on has changed", step.name));
            return Ok(step.keep.then_some(Done { on, left }));
        }
        self.log.say(format!("{}:", step.name));
        let began = Instant::now();
        let instance = self.active.enter(self.engine);
        self.run_instance(step, on, epoch, instance.id).await?;
        let left = match step.keep {
            true => {
                let recipe = ImageRecipe::Left {
                    instance: instance.id,
                    config: ImageConfig::default(),
                    part: Some(PART.to_owned()),
                };
                let made = self.made(recipe).await?;
                BuildStep {
                    on,
                    image: made.image.digest,
                    part: made.part.map(|part| part.digest),
                }
            }
            // There is nothing to keep of it but that it was good.
            false => BuildStep {
                on,
                image: on,
                part: None,
            },
        };
        let now = clock::now();
        self.store
            .put_build_step(self.service, &key, &left, now)
            .await?;
        self.images_changed.notify_one();
        self.log.say(format!(
            "{}: done in {:.1} s",
            step.name,
            began.elapsed().as_secs_f64()
        ));
        Ok(step.keep.then_some(Done { on, left }))
    }

    /// Everything that decides what a step makes.
    fn key(&self, step: &Step, on: Digest, epoch: u64) -> String {
        let mut hash = Sha256::new();
        // Each list with its length, each text with its own: no two that differ are the same.
        let mut add = |texts: &[&str]| {
            hash.update((texts.len() as u64).to_be_bytes());
            for text in texts {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text.as_bytes());
            }
        };
        let kept = if step.keep { "kept" } else { "" };
        add(&[
            &on.to_string(),
            &epoch.to_string(),
            self.working_dir,
            DRIVER,
            kept,
        ]);
        add(&texts(self.base_env.iter()));
        add(&texts(step.commands.iter()));
        add(&texts(
            step.env.iter().flat_map(|(name, value)| [name, value]),
        ));
        let secrets = self.secrets.iter();
        let secrets: Vec<&str> = secrets.flat_map(|(name, value)| [name, value]).collect();
        add(&secrets);
        Digest::from_sha256(hash.finalize().into()).hex()
    }

    async fn is_here(&self, left: BuildStep) -> bool {
        for digest in [Some(left.image), left.part].into_iter().flatten() {
            let Ok(mut reference) =
                format!("{LOCAL_REGISTRY}/built").parse::<ekiden_model::image::ImageReference>()
            else {
                return false;
            };
            reference.digest = Some(digest);
            if self.engine.prepare_image(&reference).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn stack(&self, images: &[Digest], config: ImageConfig) -> Result<Digest, BuildError> {
        if let [only] = images {
            return Ok(*only);
        }
        let images = images.to_vec();
        let made = self.made(ImageRecipe::Stack { images, config }).await?;
        Ok(made.image.digest)
    }

    async fn made(&self, recipe: ImageRecipe) -> Result<MadeImage, BuildError> {
        make(self.engine, &recipe, self.log).await
    }

    /// Runs a step's commands to their end.
    async fn run_instance(
        &self,
        step: &Step,
        on: Digest,
        epoch: u64,
        id: InstanceId,
    ) -> Result<(), BuildError> {
        let mut args: Vec<String> = ["/bin/sh", "-c", DRIVER, "build"].map(str::to_owned).into();
        args.extend(step.commands.iter().cloned());
        let spec = InstanceSpec {
            id,
            service: self.service,
            service_name: self.service_name.clone(),
            revision: RevisionNumber(0),
            image: on,
            args,
            env: self.env(step, epoch),
            secret_env: self.secrets.clone(),
            cwd: self.working_dir.to_owned(),
            user: "0".to_owned(),
            stop_signal: 15,
            port: 1,
            limits: self.limits,
            user_namespace: UserNamespace::Private,
            spare: false,
            build: Some(BuildOptions {
                epoch,
                cache_bytes_max: self.cache_bytes_max,
            }),
        };
        let mut observed = self.engine.observe();
        self.engine.start(&spec).await?;
        let mut follower = Follower {
            query: LogQuery {
                service: self.service,
                instance: Some(id),
                after: None,
                lines_max: LOG_LINES_MAX,
            },
            log: self.log,
        };
        let started = Instant::now();
        let mut was_seen = false;
        let cause = loop {
            let seen = observed.borrow_and_update().clone();
            let state = seen.instances.iter().find(|seen| seen.id == id);
            // What was started shows a little later.
            let is_due = was_seen || started.elapsed() >= SHOWS_WITHIN;
            match state.map(|seen| &seen.state) {
                Some(InstanceState::Exited(exit)) => break exit.cause.clone(),
                None if seen.current && is_due => break ExitCause::Lost,
                None => {}
                Some(_) => was_seen = true,
            }
            tokio::select! {
                changed = observed.changed() => if changed.is_err() { break ExitCause::Lost; },
                () = tokio::time::sleep(LOG_EVERY) => follower.read(self.engine).await,
                () = tokio::time::sleep_until(self.deadline) => {
                    let grace_ms = STOP_GRACE.as_millis() as u64;
                    let reason = ekiden_model::instance::StopReason::NotNeeded;
                    let _ = self.engine.stop(id, reason, grace_ms).await;
                    follower.read(self.engine).await;
                    return Err(BuildError::TooLong);
                }
            }
        };
        follower.read(self.engine).await;
        match cause {
            ExitCause::Code { code: 0 } => Ok(()),
            cause => Err(BuildError::Failed(failed(step, &cause))),
        }
    }

    /// The base's variables, then the step's over them.
    fn env(&self, step: &Step, epoch: u64) -> BTreeMap<String, String> {
        let mut env: BTreeMap<String, String> = self
            .base_env
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        env.insert("HOME".to_owned(), "/root".to_owned());
        env.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string());
        env.insert("CI".to_owned(), "true".to_owned());
        env.extend(step.env.clone());
        env
    }
}

fn texts<'a>(of: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    of.map(String::as_str).collect()
}

/// Whether a step, or one that it is upon, was given the source.
fn has_source(steps: &[Step], index: usize) -> bool {
    let Some(step) = steps.get(index) else {
        return false;
    };
    let below = match step.on {
        From::Base => false,
        From::Step(below) | From::Application(below) => below < index && has_source(steps, below),
    };
    step.input == Input::Source || below
}

fn failed(step: &Step, cause: &ExitCause) -> String {
    let name = &step.name;
    let hint = match cause {
        ExitCause::OutOfMemory => " Give builds more memory (`builds.memory`).",
        ExitCause::OutOfDisk => " Give builds more room (`builds.disk`, `builds.cache`).",
        ExitCause::Code { code: 126 | 127 } => {
            " The shell could not find or run a command; see the last lines."
        }
        _ => "",
    };
    format!("Failed to execute '{name}' command: it {cause}.{hint}")
}

/// Reads the log of an instance as it grows.
struct Follower<'a> {
    query: LogQuery,
    log: &'a OpenLog,
}

impl Follower<'_> {
    async fn read<E: Engine>(&mut self, engine: &Arc<E>) {
        loop {
            let page = match engine.logs(&self.query).await {
                Ok(page) => page,
                Err(_) => return, // what is missed now is read the next time
            };
            let is_full = page.lines.len() >= LOG_LINES_MAX as usize;
            for line in page.lines {
                match line.stream {
                    LogStream::Ekiden => self.log.say(line.text),
                    LogStream::Stdout | LogStream::Stderr => self.log.hear(line.text),
                }
            }
            self.query.after = Some(page.next);
            if !is_full {
                return;
            }
        }
    }
}

/// Makes an image and writes down what is said meanwhile.
pub(super) async fn make<E: Engine>(
    engine: &Arc<E>,
    recipe: &ImageRecipe,
    log: &OpenLog,
) -> Result<MadeImage, BuildError> {
    let (lines, mut said) = mpsc::channel(LINES_WAITING_MAX);
    let mut making = std::pin::pin!(engine.make_image(recipe, &lines));
    let made = loop {
        tokio::select! {
            // Neither loses anything when it is polled again.
            Some(line) = said.recv() => log.hear(line),
            made = &mut making => break made,
        }
    };
    while let Ok(line) = said.try_recv() {
        log.hear(line);
    }
    made.map_err(|error| match error {
        EngineError::Unavailable { .. } => BuildError::Engine(error),
        other => BuildError::Failed(other.to_string()),
    })
}

/// Where the application is, in what it is built of and in what it becomes.
pub(super) fn working_dir(directory: &str) -> String {
    match directory {
        "" => APPLICATION_DIR.to_owned(),
        directory => format!("{APPLICATION_DIR}/{directory}"),
    }
}
