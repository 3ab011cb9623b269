// The life of one service through the JavaScript SDK v3, as its users write it: the default
// credential chain, the SDK's own paginators, errors told apart by their classes.
//
//     node life_cycle.js NAME IMAGE OTHER_IMAGE
//
// The endpoint and the key come from the environment, as `ekiden env` prints it.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import {
  AppRunnerClient,
  AppRunnerServiceException,
  CreateAutoScalingConfigurationCommand,
  CreateServiceCommand,
  DeleteAutoScalingConfigurationCommand,
  DeleteServiceCommand,
  DescribeServiceCommand,
  InvalidRequestException,
  InvalidStateException,
  PauseServiceCommand,
  ResourceNotFoundException,
  ResumeServiceCommand,
  StartDeploymentCommand,
  UpdateServiceCommand,
  paginateListAutoScalingConfigurations,
  paginateListOperations,
  paginateListServices,
} from "@aws-sdk/client-apprunner";

const POLL_MS = 100;
// Far more than any operation here takes; only so that a hanging run ends.
const POLLS_MAX = 1800;

const [name, image, otherImage] = process.argv.slice(2);
const client = new AppRunnerClient({});
const send = (command) => client.send(command);

const source = (identifier) => ({
  ImageRepository: {
    ImageIdentifier: identifier,
    ImageRepositoryType: "ECR",
    ImageConfiguration: { Port: "8080", RuntimeEnvironmentVariables: { GREETING: "from Node" } },
  },
  AutoDeploymentsEnabled: false,
});

const describe = async (arn) =>
  (await send(new DescribeServiceCommand({ ServiceArn: arn }))).Service;

async function settled(arn) {
  for (let polls = 0; polls < POLLS_MAX; polls += 1) {
    const service = await describe(arn);
    if (service.Status !== "OPERATION_IN_PROGRESS") return service;
    await pause(POLL_MS);
  }
  throw new Error(`${arn} is still in progress`);
}

async function all(pages, list) {
  const found = [];
  for await (const page of pages) {
    assert.ok(page[list].length <= 1, "a page has at most the asked for one");
    found.push(...page[list]);
  }
  return found;
}

const pagination = { client, pageSize: 1 };
const operations = (arn) =>
  all(paginateListOperations(pagination, { ServiceArn: arn }), "OperationSummaryList");
const services = () => all(paginateListServices(pagination, {}), "ServiceSummaryList");

async function refused(kind, command) {
  await assert.rejects(send(command), (error) => {
    assert.ok(error instanceof kind, `${error.name} is not ${kind.name}`);
    assert.ok(error instanceof AppRunnerServiceException);
    assert.equal(error.$fault, "client");
    assert.equal(error.$metadata.httpStatusCode, 400);
    assert.match(error.$metadata.requestId, /^[0-9a-f-]{36}$/);
    assert.ok(error.message.length > 0);
    return true;
  });
}

async function step(title, act) {
  const result = await act();
  console.log(`ok: ${title}`);
  return result;
}

const scaling = await step("create an auto scaling configuration", async () => {
  const answer = await send(
    new CreateAutoScalingConfigurationCommand({
      AutoScalingConfigurationName: name,
      MinSize: 1,
      MaxSize: 2,
      Tags: [{ Key: "made-by", Value: "javascript" }],
    }),
  );
  const made = answer.AutoScalingConfiguration;
  assert.equal(made.Status, "active");
  assert.equal(made.AutoScalingConfigurationRevision, 1);
  assert.ok(made.CreatedAt instanceof Date);
  return made.AutoScalingConfigurationArn;
});

const created = await step("create", async () => {
  const answer = await send(
    new CreateServiceCommand({
      ServiceName: name,
      SourceConfiguration: source(image),
      InstanceConfiguration: { Cpu: "1 vCPU", Memory: "2 GB" },
      AutoScalingConfigurationArn: scaling,
      Tags: [{ Key: "made-by", Value: "javascript" }],
    }),
  );
  assert.match(answer.OperationId, /^[0-9a-f]{32}$/);
  assert.equal(answer.Service.Status, "OPERATION_IN_PROGRESS");
  assert.equal(answer.Service.InstanceConfiguration.Cpu, "1024");
  assert.ok(answer.Service.CreatedAt instanceof Date);
  return answer.Service;
});
const arn = created.ServiceArn;

await step("poll until it runs", async () => {
  const service = await settled(arn);
  assert.equal(service.Status, "RUNNING");
  assert.equal(service.ServiceUrl, created.ServiceUrl);
  assert.equal(service.AutoScalingConfigurationSummary.AutoScalingConfigurationArn, scaling);
});

await step("errors by class", async () => {
  const again = { ServiceName: name, SourceConfiguration: source(image) };
  await refused(InvalidRequestException, new CreateServiceCommand(again));
  const absent = arn.replace(/[0-9a-f]{32}$/, "0".repeat(32));
  await refused(ResourceNotFoundException, new DescribeServiceCommand({ ServiceArn: absent }));
});

await step("update", async () => {
  const answer = await send(
    new UpdateServiceCommand({ ServiceArn: arn, SourceConfiguration: source(otherImage) }),
  );
  assert.equal(answer.Service.Status, "OPERATION_IN_PROGRESS");
  const service = await settled(arn);
  assert.equal(service.Status, "RUNNING");
  assert.equal(service.SourceConfiguration.ImageRepository.ImageIdentifier, otherImage);
});

await step("start a deployment", async () => {
  const { OperationId } = await send(new StartDeploymentCommand({ ServiceArn: arn }));
  await settled(arn);
  const [newest] = await operations(arn);
  assert.deepEqual([newest.Id, newest.Status], [OperationId, "SUCCEEDED"]);
});

await step("pause and resume", async () => {
  await send(new PauseServiceCommand({ ServiceArn: arn }));
  assert.equal((await settled(arn)).Status, "PAUSED");
  const again = await send(new PauseServiceCommand({ ServiceArn: arn }));
  assert.equal(again.OperationId, undefined);
  const change = { ServiceArn: arn, InstanceConfiguration: { Memory: "3 GB" } };
  await refused(InvalidStateException, new UpdateServiceCommand(change));
  await send(new ResumeServiceCommand({ ServiceArn: arn }));
  assert.equal((await settled(arn)).Status, "RUNNING");
});

await step("paginate", async () => {
  const kinds = (await operations(arn)).map((operation) => operation.Type);
  assert.deepEqual(kinds, [
    "RESUME_SERVICE",
    "PAUSE_SERVICE",
    "START_DEPLOYMENT",
    "UPDATE_SERVICE",
    "CREATE_SERVICE",
  ]);
  assert.ok((await services()).some((service) => service.ServiceArn === arn));
  const configurations = await all(
    paginateListAutoScalingConfigurations(pagination, {}),
    "AutoScalingConfigurationSummaryList",
  );
  const names = configurations.map((one) => one.AutoScalingConfigurationName).sort();
  assert.deepEqual(names, ["DefaultConfiguration", name].sort());
});

await step("delete", async () => {
  const answer = await send(new DeleteServiceCommand({ ServiceArn: arn }));
  assert.equal(answer.Service.Status, "OPERATION_IN_PROGRESS");
  const service = await settled(arn);
  assert.equal(service.Status, "DELETED");
  assert.ok(service.DeletedAt instanceof Date);
  assert.ok(!(await services()).some((one) => one.ServiceArn === arn));
  const { AutoScalingConfiguration } = await send(
    new DeleteAutoScalingConfigurationCommand({ AutoScalingConfigurationArn: scaling }),
  );
  assert.equal(AutoScalingConfiguration.Status, "inactive");
});
